"""The graphs that clients without torch fetch, and what such a client is told where there are none."""

from __future__ import annotations

from heron_core.arrays import Array
from heron_core.errors import JoinRefused, StaleTerm
from heron_core.graphs.graph_set import GraphSet
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.software import Software
from heron_server.graphs.refusals import refuse_what_graphs_lack
from heron_server.run.peer import Peer, check_name


class Offer:
    """Of one run."""

    def __init__(self, spec: RunSpec, graphs: GraphSet | None) -> None:
        """`graphs`: None where the server exports none."""
        self._spec, self.sha256 = spec, graphs.manifest.sha256 if graphs else ""
        self._files = graphs.files() if graphs else {}

    def check(self, request: pb.JoinRequest) -> None:
        """Raises ConfigError or JoinRefused for a client that needs graphs of a server that has none."""
        if not self._files and Software.read(request.software).runs_graphs:
            refuse_what_graphs_lack(self._spec)
            raise JoinRefused(
                "this client runs graphs, and the server offers none: set server.graphs = true there (pip install "
                "'heron-sfl[export]'), or backend = \"torch\" in the client's file (pip install 'heron-sfl[torch]')"
            )

    def files(self, peer: Peer, request: pb.FetchGraphsRequest) -> dict[str, Array]:
        """What is sent to `peer`. Raises NotAdmitted where it is proved to be another client than it says, and
        StaleTerm for another set than the run's."""
        check_name(peer, request.client_name)
        if not self._files or request.graphs != self.sha256:
            raise StaleTerm("the run has no graphs by this hash; join again, which names those that it has")
        return dict(self._files)
