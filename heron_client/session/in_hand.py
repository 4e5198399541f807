"""The round that a runner works on: what is computed, what is sent, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heron_client.compute.meter import PeakMeter
from heron_client.session.session import Assignment
from heron_client.uploads.upload import CutGradients, Upload
from heron_client.uploads.uploader import Uploader
from heron_core.pb.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from heron_client.compute.local_round import LocalRound


class RoundInHand:
    """One round's local steps and uploads; they survive a broken connection within the round's term."""

    def __init__(self, assignment: Assignment, local: LocalRound, uploader: Uploader, meter: PeakMeter | None) -> None:
        self.assignment, self.local, self.uploader, self.meter = assignment, local, uploader, meter
        self._uploads = local.uploads()
        self.pending: Upload | None = None
        """Computed, not yet handed to the uploader."""
        self.awaiting: int | None = None
        """Step whose cut gradients the local round waits for."""
        self._owed: int | None = None
        """Step whose cut gradients it will wait for, once it has computed what it can without them."""
        self.answer: CutGradients | None = None
        """What the local round goes on with."""

    def attached(self) -> None:
        """The server has said how far it is."""
        if self.local.sent is not None:
            self.local.sent.hear(self.uploader.received, self.uploader.held)

    def advance(self) -> bool:
        """Computes up to the next upload, up to where cut gradients are needed, or to the end of a step without either;
        False once all steps are done."""
        if self.pending is None and self.awaiting is None:
            self.uploader.listen()
            answer, self.answer = self.answer, None
            try:
                self.pending = self._uploads.send(answer)
            except StopIteration:
                return False
            if self.pending is None:
                self.awaiting, self._owed = self._owed, None
        return True

    def handed_over(self) -> None:
        """The uploader has the pending upload: its memory is the uploader's business now."""
        if self.pending is not None and self.pending.wants_gradients:
            self._owed = self.pending.step
        self.pending = None

    def answered(self, gradients: CutGradients) -> None:
        """The cut gradients that the local round waited for are here."""
        self.answer, self.awaiting = gradients, None

    def figures(self, class_histogram: list[int], pss_bytes: int) -> pb.ClientFigures:
        """What the server is told of the local round, once all its steps are done. `pss_bytes`: 0 if not measured."""
        found, meter = self.local.figures, self.meter
        return pb.ClientFigures(
            first_loss=found.losses[0], last_loss=found.losses[-1], mean_loss=sum(found.losses) / len(found.losses),
            forward_passes=found.forward_passes, step_seconds_median=found.step_seconds_median,
            peak_bytes=meter.peak_bytes() if meter else 0, loaded_bytes=meter.loaded_bytes if meter else 0,
            pss_bytes=pss_bytes, class_histogram=class_histogram,
        )  # fmt: skip
