"""The run spec's [data] table: which samples a run learns from, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from heron_core.spec.kinds import (
    ClassNames,
    Count,
    Fingerprint,
    Fraction,
    NonNegative,
    PlaceInFolder,
    Positive,
    PositiveFloat,
    Settings,
)
from heron_core.spec.table import TableSpec
from heron_core.spec.text import TextSpec


class SensorSpec(Settings):
    """The edge's own sensor: what it makes of an image in 0 to 1, in this order. Its defaults change nothing."""

    blur: Count = 0
    """Each pixel becomes the mean of the (2 * blur + 1) x (2 * blur + 1) pixels around it. 0: sharp."""
    contrast: NonNegative = 1.0
    """Factor on each pixel's distance from 0.5. Below 1 is flatter."""
    brightness: tuple[Annotated[float, Strict(), Field(ge=-1, le=1)], ...] = ()
    """Added to every pixel, one number for all channels or one for each; what leaves 0 to 1 is clipped. Empty: none."""
    noise: NonNegative = 0.0
    """Standard deviation of Gaussian noise on each pixel, the same for a sample whenever it is read."""

    @property
    def is_plain(self) -> bool:
        """Does it leave images as they are?"""
        return self == SensorSpec()


class DataSpec(Settings):
    source: Literal["digits", "cifar10", "arrays", "e2e", "restaurants", "client"] = "digits"
    """digits (embedded), cifar10 or arrays (`data.file`; both from each side's data folder), for language models e2e
    (e2e/train.txt and test.txt in the data folder) or restaurants (made up by a small grammar), or client: every
    client's file names its own data."""
    file: PlaceInFolder = ""
    """With source = arrays, an .npz in each side's data folder: `x` and `y`, and perhaps `groups` (whose each sample
    is), `x_test` and `y_test`."""
    file_sha256: Fingerprint = ""
    """What `sha256sum` says of that file, checked on each side. Empty: any file of that name is taken."""
    test_share: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.2
    """Share of the samples (of the groups, with partition = groups) that is the test part, with source = arrays and a
    file without `x_test`; drawn by the seed."""
    partition: Literal["iid", "dirichlet", "shards", "groups"] = "iid"
    """How experiment data is divided by client rank. groups: whole ones, dealt to the client that has the fewest
    samples; test part and data.validation are whole groups too, so that evaluation is on people nobody trained on."""
    alpha: PositiveFloat = 0.5
    """Dirichlet concentration: smaller is more skewed."""
    shards_per_client: Positive = 2
    """Shards of label-sorted samples each client gets, with partition = shards."""
    train_range: tuple[Count, ...] = ()
    """[first, end]: use only the training samples first to end - 1 of the data's own order, so that two runs can share
    none. Empty: all."""
    train_limit: Count = 0
    """Use only this many training samples, the first of a seeded permutation. 0: all."""
    test_limit: Count = 0
    """Use only this many test samples, likewise. 0: all."""
    holdout: Fraction = 0.1
    """Share of each client's own data held out for evaluation, with source = client. Where the server has a test set of
    its own (server.test_data) and the run file does not ask for it: 0."""
    holdout_by: Literal["sample", "group"] = "sample"
    """What is held out: samples, or whole groups (data.table.group, or `groups` of your own dataset), so that nobody's
    samples stand on both sides."""
    validation: Fraction = 0.0
    """Set this share of the training samples apart and evaluate on it, to choose settings without looking at the test
    set, or at what clients hold out of their own data: of the experiment's, or of each client's. 0: evaluate there."""
    sensor: SensorSpec = SensorSpec()
    """The sensor that training and test images of the experiment come through."""
    class_names: ClassNames = ()
    """What the labels 0, 1, ... are called, as many as the model has classes; own data is matched by them. Empty: as
    the server's test set calls them, else as the first client does whose data knows names."""
    table: TableSpec = TableSpec()
    """How the clients' rows (csv, parquet) become samples."""
    text: TextSpec = TextSpec()
    """How text (e2e, restaurants, the clients' text and jsonl) becomes a language model's tokens."""

    @model_validator(mode="after")
    def _fits_source(self) -> Self:
        if not self.sensor.is_plain and self.source not in ("digits", "cifar10"):
            whose = "data.file" if self.source == "arrays" else "the data itself"
            raise ValueError(
                f'sensor is for the images of digits and cifar10, not for source = "{self.source}"; apply it in {whose}'
            )
        if self.source == "arrays" and not self.file:
            raise ValueError('source = "arrays" needs an .npz in each side\'s data folder; name it in data.file')
        if self.partition == "groups" and self.text.packing:
            raise ValueError(
                'partition = "groups" deals out whole groups, and text.packing cuts samples anywhere; remove either'
            )
        if self.partition == "groups" and self.source in ("digits", "cifar10"):
            raise ValueError(
                f'partition = "groups" deals out whole people or devices, and {self.source} does not say whose a '
                'sample is; take another partition, or source = "arrays" with `groups` in its file'
            )
        return self
