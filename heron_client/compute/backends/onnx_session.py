"""One graph in ONNX Runtime: a function from named arrays to named arrays, on as many threads as the run says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from heron_core.arrays import Array
from heron_core.errors import ConfigError, ModelError

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class OnnxOptions:
    """What is the machine's own: but for the provider none of it changes a bit of the results."""

    provider: str = CPU
    """What computes, as ONNX Runtime calls it. What it lacks, the CPU computes."""

    arena: bool = True
    """Keep freed memory for later passes. Without it each map comes from the C library, which gives less of it back."""
    memory_pattern: bool = False
    """Plan one block of memory for each batch shape after its first pass."""


class OnnxSession:
    """A graph that is ready to run."""

    def __init__(
        self, name: str, graph: bytes, threads: int, options: OnnxOptions, constants: Mapping[str, Array] | None = None
    ) -> None:
        """`constants`: the values of those that `with_constants` has made; nobody may write into them while this is in
        use. ConfigError: ONNX Runtime is not installed. ModelError: it cannot run this graph."""
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(
                "a client without torch needs onnxruntime, which is not installed here; pip install 'heron-sfl[onnx]'"
            ) from None
        given = onnxruntime.SessionOptions()
        given.intra_op_num_threads, given.inter_op_num_threads = threads, 1
        given.enable_cpu_mem_arena, given.enable_mem_pattern = options.arena, options.memory_pattern
        given.enable_mem_reuse = False  # its plan keeps two maps of the paper's front for too long
        given.log_severity_level = 3  # errors: they are raised as well
        given.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if constants:
            if options.arena:
                _share_arena()
                given.add_session_config_entry("session.use_env_allocators", "1")
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
            given.add_external_initializers(list(constants), values)
        try:
            self._session = onnxruntime.InferenceSession(graph, given, providers=list({options.provider: 0, CPU: 0}))
        except Exception as error:  # its kinds have no base of their own
            raise ModelError(
                f"ONNX Runtime {onnxruntime.__version__} cannot run the server's {name}: {_first_line(error)}; "
                "install a newer one, or torch"
            ) from error
        if options.provider not in self._session.get_providers():  # its libraries are missing: a warning of its own
            raise ConfigError(
                f"ONNX Runtime cannot start its {options.provider} here, whose libraries may be missing; install them, "
                'or take execution_provider = "cpu"'
            )
        self._name = name
        self._only = onnxruntime.RunOptions()
        self._only.only_execute_path_to_fetches = True
        self._takes = [each.name for each in self._session.get_inputs()]

    def run(self, given: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
        """The outputs `wanted`, row-major, each the caller's own. Of `given` it takes what the graph has as inputs."""
        try:
            taken = {name: given[name] for name in self._takes}
            found: list[Array] = self._session.run(list(wanted), taken, self._only)
        except KeyError as error:
            raise ModelError(f"the server's {self._name} takes {error}, which its manifest does not name") from None
        except Exception as error:
            raise ModelError(f"the server's {self._name} cannot be run: {_first_line(error)}") from error
        return found


@cache
def _share_arena() -> None:
    """One arena for all sessions with constants, since one of them follows another at each point."""
    from onnxruntime import OrtAllocatorType, OrtArenaCfg, OrtMemoryInfo, OrtMemType, create_and_register_allocator

    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    create_and_register_allocator(memory, OrtArenaCfg(0, 0, -1, -1))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]
