"""Data sources, the experiments' data and its partition, and the order of batches.

NumPy only: importing this package imports no torch, scikit-learn, scipy or Pillow; Pillow comes in with the
source that reads images.
"""

from heron_core.data.adapted import AdaptedDataset
from heron_core.data.batches import BatchOrder, batch_indices
from heron_core.data.checks import check_source
from heron_core.data.experiment import Experiment, Shares, client_share, load_experiment, share_counts, share_sizes
from heron_core.data.partition import class_histogram
from heron_core.data.source import ArraySource, Normalisation, Source, Subset
from heron_core.data.sources.holdout import split_holdout, split_own
from heron_core.data.sources.own import load_own

__all__ = [
    "AdaptedDataset",
    "ArraySource",
    "BatchOrder",
    "Experiment",
    "Normalisation",
    "Shares",
    "Source",
    "Subset",
    "batch_indices",
    "check_source",
    "class_histogram",
    "client_share",
    "load_experiment",
    "load_own",
    "share_counts",
    "share_sizes",
    "split_holdout",
    "split_own",
]
