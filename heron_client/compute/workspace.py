"""What a client needs to do its part of a run: a backend, its state, and its data."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from heron_client.compute.backend import Backend
from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.encoding import encoded
from heron_client.compute.local_round import LocalRound
from heron_client.compute.prior import adjust_logits
from heron_client.compute.replica import Replica, replay_of
from heron_client.compute.reuse.check import check_reuse, check_samples
from heron_client.compute.reuse.sent_once import SentOnce
from heron_client.compute.reuse.sketches import Sketches
from heron_client.config import ClientSettings
from heron_client.uploads.upload import Upload
from heron_core import data
from heron_core.arrays import Array, length_of
from heron_core.class_names import counted
from heron_core.data.batches import BatchOrder
from heron_core.data.facts import DataFacts, facts_of
from heron_core.data.own.remarks import doubts, notes
from heron_core.data.source import Source, lengths_of
from heron_core.data.sources.text import asked_of
from heron_core.process.console import printable
from heron_core.spec.methods import tolerates, uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.activation_codec import CODECS
from heron_core.wire.labels import NUMBERING_BYTES, packed

log = logging.getLogger("heron.client")


class Workspace:
    """Built once a run; `prepare` fixes rank and data once the run has started."""

    def __init__(
        self, settings: ClientSettings, spec: RunSpec, backend: Backend, shares: data.Shares | None = None,
        class_names: Sequence[str] = (), own: Source | None = None,
    ) -> None:  # fmt: skip
        """`class_names`: the run's, as far as they are known. `own`: own data that is loaded already. Raises DataError
        where it cannot be loaded."""
        self.spec, self._settings, self._shares = spec, settings, shares or data.Shares()
        self._backend = backend
        replay = replay_of(spec, backend)
        self.state = ClientState(backend, spec.method, replay)
        self.replica = Replica(self.state.expected, replay)
        self.class_names = tuple(class_names)
        if own is None and spec.data.source == "client":
            own = load_own_data(settings, spec, backend, class_names)
        self._own = own
        self.facts = self._facts()
        """Of own data; None where the run's data is an experiment's."""
        self._dealt: tuple[int, int] | None = None
        self._train: Source | None = None
        self._held_out: Source | None = None
        self._order: BatchOrder | None = None
        self._numbering = b""
        """Names this client's numbers of its samples, where activations are reused: drawn anew with the data."""
        self._sketches: Sketches | None = None
        """Of what it has sent, where the front learns."""

    @property
    def num_samples(self) -> int:
        """Training samples of this client; 0 before `prepare`."""
        return len(self._train) if self._train is not None else 0

    @property
    def class_histogram(self) -> list[int]:
        """Training samples of each class; empty where a label is not one class."""
        assert self._train is not None
        classes = self._backend.labels.classes
        return data.class_histogram(self._train.labels, classes) if classes else []

    def prepare(self, rank: int, clients: int) -> bool:
        """Deals this client's data; True if that changed anything."""
        if self._dealt == (rank, clients):
            return False
        spec = self.spec
        if self._own is not None:
            self._train, self._held_out = data.split_own(self._own, spec.data, spec.seed, rank)
        else:
            folder = self._settings.data.folder
            text = asked_of(spec, self._backend.inputs, folder)
            self._train = self._shares.of(spec.data, spec.seed, folder, rank, clients, text)
        data.check_source(self._train, self._backend.inputs, self._backend.labels)
        pool = spec.data.text.by_length
        lengths = lengths_of(self._train) if pool else None
        self._order = BatchOrder(spec.seed, rank, len(self._train), spec.method.batch_size, lengths, pool)
        if spec.method.logit_adjustment:
            adjust_logits(self._backend, self.class_histogram, spec.method.logit_adjustment)
        if spec.codec.reuse:
            if tolerates(spec):
                check_samples(self._train, spec.method.micro_batch_rows)
                size = sum(prod(tensor.shape) for tensor in self._backend.activations)
                self._sketches = Sketches(len(self._train), size, spec.codec.tolerance, spec.seed)
            elif spec.codec.exact:
                check_reuse(self._backend, self._train, spec.method.micro_batch_rows)
            self._numbering = os.urandom(NUMBERING_BYTES)
        self._dealt = (rank, clients)
        return True

    def local_round(self, round_number: int, rank: int, state: Mapping[str, Array]) -> LocalRound:
        """The round's work from a fetched client state."""
        assert self._train is not None and self._order is not None
        self.state.load(state)
        method = self.spec.method
        batches = Batches(self._train, self._order, method, round_number, rank, self.spec.rounds)
        before, sent = (round_number - 1) * uploads_per_round(method), None
        if self.spec.codec.reuse:
            sent = SentOnce(self._numbering, len(self._train), self._sketches, before)
        return LocalRound(method, self.spec.seed, self.state, batches, self.spec.codec, sent)

    @property
    def num_held_out(self) -> int:
        """Samples held out for evaluation."""
        return len(self._held_out) if self._held_out is not None else 0

    @property
    def evaluation_steps(self) -> int:
        """Uploads that an evaluation takes."""
        return -(-self.num_held_out // self.spec.method.batch_size)

    def evaluation_uploads(self, round_number: int, rank: int, state: Mapping[str, Array]) -> Iterator[Upload]:
        """The held-out samples' activations under `state`, one micro-batch a step; the last may be smaller.

        DataError: the codec has no code for them, as they are not finite.
        """
        assert self._held_out is not None
        self.state.load(state)
        codec, backend = CODECS[self.spec.codec.evaluation], self._backend
        rows, total = self.spec.method.batch_size, len(self._held_out)
        for step, start in enumerate(range(0, total, rows)):
            inputs, labels = self._held_out.batch(np.arange(start, min(start + rows, total)))
            labels = packed(labels, backend.labels.tensor, self.spec.codec.labels == "packed")
            activations = backend.evaluation_activations(inputs)
            path = ("round", round_number, "client", rank, "evaluation", step)
            tensors = encoded(codec, backend, activations, labels, self.spec.seed, *path)
            yield Upload(step, step, 0, len(labels), tensors, length=length_of(backend.activations, activations))

    @property
    def class_histogram_text(self) -> str:
        """`apfel 12, birne 0`, or the counts alone; empty where a label is not one class."""
        known = self.class_names or (self.facts.class_names if self.facts else ())
        return counted(self.class_histogram, known) if self.class_histogram else ""

    def _facts(self) -> DataFacts | None:
        if self._own is None:
            return None
        inputs, labels = self._backend.inputs, self._backend.labels
        data.check_source(self._own, inputs, labels)
        from heron_core.data.contract import contract_of

        facts = facts_of(self._own, inputs, labels)
        for text in doubts(self._own, facts, labels):
            log.warning("own data: %s", printable(text))
        for text in notes(self._own, facts):
            log.info("own data: %s", printable(text))
        contract = contract_of(self._own, inputs, self._settings.data.source)
        return replace(facts.comparable(inputs), contract=contract)


def load_own_data(settings: ClientSettings, spec: RunSpec, backend: Backend, class_names: Sequence[str]) -> Source:
    """What the operator's file names, for a run's model; `class_names` as far as they are known. Raises DataError."""
    own = settings.data
    if own.on_bad_sample == "skip":
        log.info("own data: opening each sample once, because data.on_bad_sample is skip")
    return data.load_own(
        own.source, path=own.path, options=own.options, inputs=backend.inputs, labels=backend.labels,
        class_names=class_names, on_bad_sample=own.on_bad_sample, table=spec.data.table,
        text=asked_of(spec, backend.inputs, own.folder),
    )  # fmt: skip
