"""Two ways to hand Heron a model of your own.

`tabular` says everything itself: what runs on the client, what on the server, what crosses the cut.
`whole_network` is an ordinary nn.Module and the name of the submodule to cut after.
"""

from torch import Tensor, nn

from heron_core.models import CutModule, SplitModel, TensorSpec
from heron_core.models.tasks.classification import Classification

FEATURES = 30
CLASSES = 2


def tabular(width: int = 32) -> SplitModel:
    """`width` numbers per sample cross the cut; model.options in the run file sets it."""
    return SplitModel(
        front=lambda: nn.Sequential(nn.Linear(FEATURES, width), nn.LayerNorm(width), nn.ReLU()),
        auxiliary=lambda: nn.Linear(width, CLASSES),
        back=lambda: nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
        inputs=(TensorSpec("input", (FEATURES,)),),
        activations=(TensorSpec("activations", (width,)),),
        task=Classification(CLASSES),
    )


class Network(nn.Module):
    """Knows nothing of Heron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(FEATURES, width), nn.LayerNorm(width), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(width, 64), nn.ReLU())
        self.classify = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.hidden(self.embed(x)))
        return logits


def whole_network(width: int = 32) -> CutModule:
    """Cut after `embed`; Heron adds the auxiliary head that model.auxiliary names."""
    return CutModule(lambda: Network(width), cut="embed", input_shape=(FEATURES,), task=Classification(CLASSES))
