"""The Main-Server's torch side in one process: owns theta_s and what trains it, and answers the commands of a run.

Shape suffixes: B batch rows, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from heron_core.arrays import Array, TensorSpec
from heron_core.data.source import Source
from heron_core.device import to_inputs, use_threads
from heron_core.errors import ModelError, TensorError
from heron_core.measures import Metric
from heron_core.models.split_model import SplitModel, activations_of, movable
from heron_core.own_code import naming_users_code
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part, seeded_torch
from heron_core.wire.activation_codec import CODECS
from heron_core.wire.codec import expected_of, mismatches
from heron_server.metrics.counts import Counts, evaluation_rows
from heron_server.storage.kept_samples import KeptSamples
from heron_server.training import guards
from heron_server.training.alignment import AlignedHeads
from heron_server.training.backs import AVERAGED_PREFIX, AveragedBack, make_backs
from heron_server.training.commands import ClientTensors, Pooled, RoundEnd, TrainedModel
from heron_server.training.counting import count
from heron_server.training.decoding import Intake, checked, encoded_gradients, moved
from heron_server.training.guards import Batch
from heron_server.training.heads import TrainedHead
from heron_server.training.mixing import MixedSteps, Outcome
from heron_server.training.optimizers import Rates, load_state_tensors, state_tensors, to_arrays
from heron_server.training.outliers import RecentLosses
from heron_server.uploads.assembly import Upload
from heron_server.uploads.cut_gradients import CutGradients

HEAD_PREFIX = "auxiliary_optimizer."


class Trainer:
    """First-order steps on the back, evaluation of the assembled model, and everything a checkpoint holds of both."""

    def __init__(self, spec: RunSpec, model: SplitModel, device: torch.device, test: Source | None = None) -> None:
        """`test`: the server's own test set, where it has one."""
        use_threads(spec.threads.server)
        self._spec, self._model, self._device, self._method = spec, model, device, method_of(spec.method)
        self._test = test
        back = model.build("back", spec.seed).to(device).train()
        self._backs = make_backs(self._method.backs, back, spec.server_optimizer)
        self._rates = Rates(spec)
        decay = spec.averaged_back.decay
        self._averaged = AveragedBack(model, spec.seed, back, decay) if decay else None
        self._client = nn.ModuleDict(
            {p: back if p == "back" else model.build(p, spec.seed).to(device) for p in self._method.client_parts}
        )
        """The modules of a client, which the client state fills; in evaluation mode, but for fedavg's back."""
        served, self._movable = self._method.head == "server", movable(self._client)
        self._trained_head = TrainedHead(model, self._client["auxiliary"], spec.server_optimizer) if served else None
        self._client.requires_grad_(False).eval()
        back.train()
        aligned = self._method.head == "aligned"
        self._alignment = AlignedHeads(spec.method, model, spec.seed, device) if aligned else None
        self._loss_sum, self._trained_uploads = torch.zeros((), dtype=torch.float64, device=self._device), 0
        self._losses, self._intake = RecentLosses(spec.guard.loss_outlier), Intake(model, CODECS[spec.codec.uploads])
        if spec.method.mixing:
            trainee, averaged, head = self._backs.trainee(0), self._averaged, self._trained_head
            self._mixed = MixedSteps(spec, self._intake, model, device, trainee, averaged, head, self._losses)
        self._quarantined: Counter[str] = Counter()
        """By client, uploads of this round that nothing was trained on."""

    @property
    def uploaded(self) -> tuple[TensorSpec, ...]:
        """The tensors of an upload: the activations, then the labels."""
        return self._model.uploaded

    @property
    def classes(self) -> int:
        """How many classes, where a sample's label is one class; else 0."""
        return self._model.classes

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What its counts are of."""
        return self._model.task.metrics

    @property
    def has_test_set(self) -> bool:
        """Can it evaluate by itself?"""
        return self._test is not None

    @property
    def back(self) -> nn.Module:
        """The one that trains, or the average of those that do."""
        return self._backs.common

    @property
    def head(self) -> nn.Module | None:
        """The auxiliary head, where there is one for all."""
        return self._client["auxiliary"] if "auxiliary" in self._client and self._alignment is None else None

    def keep_samples(self, kept: KeptSamples) -> None:
        """Where samples are that uploads use again."""
        self._intake.kept = kept

    def client_state(self) -> dict[str, Array]:
        """A copy of a client's tensors: trainable parameters in the order of its parts, then buffers."""
        return {name: t.detach().to("cpu", copy=True).numpy() for name, t in self._client_tensors().items()}

    def client_tensors(self) -> ClientTensors:
        """A client's tensors as they are now, and which of them are buffers."""
        return ClientTensors(self.client_state(), frozenset(self._model.learned_buffers(self._client)))

    @torch.no_grad()
    def load_client_state(self, state: Mapping[str, Array]) -> None:
        """Those of the tensors that `state` holds; it may hold others, such as moments."""
        for name, tensor in self._client_tensors().items():
            if name in state:
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(state[name]).reshape(tensor.shape)))

    def _client_tensors(self) -> dict[str, Tensor]:
        return {**self._movable, **self._model.learned_buffers(self._client)}

    @naming_users_code("the model", ModelError)
    def train(self, client: str, rank: int, round_number: int, upload: Upload) -> CutGradients | None:
        """One first-order step on the back from one upload, and what the method returns for it.  Eq. 7.

        There is no step where its loss is an outlier. Raises TensorError, back and head untouched, if the upload cannot
        be used.
        """
        use_threads(self._spec.threads.server)
        upload = self._intake.checked(client, rank, upload)
        activations, labels_B = moved(upload, self._device)
        leaves = guards.leaves(activations, self._method.returns_cut_gradients)
        batch = Batch(leaves, labels_B, f"client {client!r}, upload {upload.number}")
        path = ("server", "round", round_number, "client", rank, "step", upload.number)
        back, head = self._backs.trainee(rank), self._trained_head
        trainees = [back, *([head.trainee] if head is not None else [])]
        self._rates.set((trainee.optimizer for trainee in trainees), round_number, upload.number)
        with torch.enable_grad(), guards.untouched_on_error(*trainees) as undo:
            if head is not None:
                with seeded_torch(self._spec.seed, *path, "auxiliary"):
                    head.backward(replace(batch, activations=activations))
            with seeded_torch(self._spec.seed, *path):
                loss = guards.finite_loss(self._model, back.module, batch)
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
            returned = self._returned(loss, guards.cut_gradients(batch), upload.number, path)
            bound = self._spec.guard.clip_gradient
            norms = [guards.clip(t, guards.gradient_norm(self._model, t, batch), bound) for t in trainees]
            outlier = self._losses.is_outlier(rank, loss)
            if outlier:
                undo()
            else:
                guards.step(self._model, trainees, batch, norms)
                if self._averaged is not None:
                    self._averaged.follow()
        self._losses.remember(rank, loss)
        self._count_upload(client, rank, upload, loss, outlier)
        return returned

    @naming_users_code("the model", ModelError)
    def train_mixed(self, round_number: int, pool: Sequence[Pooled]) -> list[CutGradients | TensorError | None]:
        """As many steps as there are uploads, on batches drawn from all their rows. What `train` returns for each, or
        its TensorError."""
        use_threads(self._spec.threads.server)
        self._rates.set((t.optimizer for t in self._mixed.trainees), round_number, pool[0].upload.number)
        trained = self._mixed.train(round_number, pool)
        return [self._taken(round_number, each, found) for each, found in zip(pool, trained, strict=True)]

    def _taken(self, of_round: int, each: Pooled, found: Outcome | TensorError) -> CutGradients | TensorError | None:
        if isinstance(found, TensorError):
            return found
        self._count_upload(each.client, each.rank, found.upload, found.loss, found.outlier)
        path = ("server", "round", of_round, "client", each.rank, "step", each.upload.number)
        try:
            return self._returned(found.loss, found.gradients, each.upload.number, path)
        except TensorError as error:
            return error

    def _count_upload(self, client: str, rank: int, upload: Upload, loss: Tensor, outlier: bool) -> None:
        if outlier:
            self._quarantined[client] += 1
            return
        self._loss_sum += loss.detach().double()
        self._trained_uploads += 1
        if self._alignment is not None:
            self._alignment.buffers.keep(rank, upload)

    def _returned(
        self, loss: Tensor, gradients: Sequence[Tensor], number: int, path: Sequence[Part]
    ) -> CutGradients | None:
        """What the method returns for upload `number`; `path` names its random streams."""
        if not self._method.returns_cut_gradients:
            return None
        codec = CODECS[self._spec.codec.cut_gradients]
        encoded = encoded_gradients(gradients, self._model.activations, codec, self._spec.seed, *path)
        return CutGradients(number, float(loss.detach()), encoded)

    def end_round(self, round_number: int, state: Mapping[str, Array], weights: Mapping[int, float]) -> RoundEnd:
        """Takes the aggregated client state; where each client has a back, the common one becomes their average.

        Raises ModelError once the head that the server trains is not finite.
        """
        mean_loss, quarantined = self.take_mean_loss(), dict(self._quarantined)
        self._quarantined.clear()
        self.load_client_state(state)
        self._backs.end_round(list(weights), list(weights.values()))
        due = self._alignment.ranks_due(round_number) if self._alignment is not None else []
        return RoundEnd(mean_loss, self.client_state(), tuple(due), quarantined)

    @naming_users_code("the model", ModelError)
    def align(self, round_number: int, heads: Mapping[int, Mapping[str, Array]]) -> dict[int, dict[str, Array]]:
        """Each rank's head aligned, but for those that cannot be. ModelError: none can."""
        assert self._alignment is not None, "no head is due in a method without aligned heads"
        return self._alignment.align_each(heads, round_number, self.back)

    def take_mean_loss(self) -> float | None:
        """Mean server loss of the uploads since the last call, if any. ModelError: the trained head is not finite."""
        if not self._trained_uploads:
            return None
        if self._trained_head is not None:
            self._trained_head.check()
        mean, self._trained_uploads = float(self._loss_sum) / self._trained_uploads, 0
        self._loss_sum.zero_()
        return mean

    @naming_users_code("the model", ModelError)
    def evaluate_upload(self, client: str, upload: Upload) -> Counts:
        """One batch of a client's held-out samples; never touches the back. Raises TensorError if it cannot be used."""
        return self._count(checked(self._model, client, upload, CODECS[self._spec.codec.evaluation]))

    @torch.inference_mode()
    def _count(self, upload: Upload) -> Counts:
        """One batch of activations and labels."""
        use_threads(self._spec.threads.server)
        self._model.check_labels(upload.labels_B)
        averaged = None if self._averaged is None else self._averaged.module
        return count(self._model, self.back, averaged, self.head, *moved(upload, self._device))

    @naming_users_code("the model", ModelError)
    @torch.inference_mode()
    def evaluate(self, batch_rows: int = 0) -> Counts:
        """The assembled model under the present client state on the server's own test set. `batch_rows` 0: as fits."""
        test, counts, batch_rows = self._test, Counts(), batch_rows or evaluation_rows(self._model.task.output_shape)
        assert test is not None, "a trainer without a test set evaluates what clients hold out"
        for number, start in enumerate(range(0, len(test), batch_rows)):
            x, labels = test.batch(np.arange(start, min(start + batch_rows, len(test))))
            activations = activations_of(self._client["front"], to_inputs(x, self._device, self._model.channels_last))
            counts.add(self._count(Upload(number, activations, torch.from_numpy(labels))))
        return counts

    def trained(self) -> TrainedModel:
        """The parts as they are now, not copied."""
        front, back, head = self._client["front"].eval(), self.back.eval(), self.head
        head = None if head is None else head.eval()
        if self._averaged is None:
            return TrainedModel(front, back, head)
        return TrainedModel(front, self._averaged.module, head, trained_back=back)

    def back_tensors(self) -> dict[str, Array]:
        """Parameters and buffers of the back, and its average where there is one, by name, on the CPU."""
        averaged = {} if self._averaged is None else self._averaged.tensors()
        return to_arrays({**{f"back.{n}": t for n, t in self.back.state_dict().items()}, **averaged})

    def save(self) -> dict[str, Array]:
        """Everything that the server trains with and no client state holds, by name, on the CPU."""
        named = self._backs.optimizer_tensors()
        if self._trained_head is not None:
            named |= state_tensors(self._trained_head.trainee.optimizer, HEAD_PREFIX)
        if self._alignment is not None:
            named |= self._alignment.buffers.tensors()
        return {**self.back_tensors(), **to_arrays(named), **self._losses.tensors()}

    def mismatches(self, tensors: Mapping[str, Array]) -> list[str]:
        """Names of a checkpoint's tensors that do not fit the model, or are missing."""
        back = [e for e in expected_of(tensors) if e[0].startswith(("back.", AVERAGED_PREFIX))]
        buffered = [] if self._alignment is None else self._alignment.buffers.mismatches(tensors)
        return mismatches(back, expected_of(self.back_tensors())) + buffered

    def load(self, client_state: Mapping[str, Array], tensors: Mapping[str, Array]) -> None:
        """Back to a checkpoint: what is one for all of its client states, and what `save` gave."""
        self.load_client_state(client_state)
        self._backs.load(tensors)
        if self._averaged is not None:
            self._averaged.load(tensors)
        if self._trained_head is not None:
            load_state_tensors(self._trained_head.trainee.optimizer, tensors, HEAD_PREFIX)
        if self._alignment is not None:
            self._alignment.buffers.load(tensors)
        self._losses.load(tensors)
        self._loss_sum.zero_()
        self._trained_uploads = 0
        self._quarantined.clear()
