from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from test_uploader import OPENING, FakeStream, attached, upload, waits

from heron_client.uploads.cut_inbox import CutInbox
from heron_client.uploads.upload import Upload
from heron_client.uploads.uploader import Uploader, WorkLost
from heron_core.arrays import Array
from heron_core.errors import BadReply, ServerTensorError
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk


def wanting(step: int = 0, width: int = 3) -> Upload:
    plain = upload(step, width=width)
    return Upload(step, step, 0, 2, plain.tensors, [("activations", "float32", (2, width))])


def gradient(value: float, width: int = 3) -> dict[str, Array]:
    return {"activations": np.full((2, width), value, np.float32)}


def bundle(step: int, tensors: Mapping[str, Array], loss: float = 0.5) -> list[Bulk[pb.PushEvent]]:
    """As the server sends it."""
    events = []
    for offset, parts in chunks(list(tensors.values())):
        manifest = manifest_of(tensors) if offset == 0 else None
        cut = pb.CutGradients(step=step, manifest=manifest, offset=offset, loss=loss)
        events.append(Bulk(pb.PushEvent(cut_gradients=cut), parts))
    return events


def awaited(uploader: Uploader, stream: FakeStream, step: int) -> Any:
    waiting = uploader.gradients(step, 0)
    with pytest.raises(StopIteration) as end:
        next(waiting)
    return end.value.value


def pushed(step: int = 0, width: int = 3) -> tuple[Uploader, FakeStream]:
    stream = FakeStream()
    uploader = attached(stream)
    assert not waits(uploader.push(wanting(step, width), 0))
    return uploader, stream


def test_gradients_are_waited_for_and_given_whole_with_their_loss() -> None:
    uploader, stream = pushed(width=200_000)
    waiting = uploader.gradients(0, 0)
    assert waits(waiting) and waits(waiting)
    first, second = bundle(0, gradient(2.0, 200_000), loss=0.25)
    stream.events.append(first)
    assert waits(waiting)
    stream.events.append(second)
    loss, (array,) = awaited(uploader, stream, 0)
    assert loss == 0.25 and np.array_equal(array, gradient(2.0, 200_000)["activations"])


def test_a_bundle_that_is_sent_again_is_taken_from_its_start() -> None:
    uploader, stream = pushed(width=200_000)
    stream.events += bundle(0, gradient(1.0, 200_000))[:1]
    assert waits(uploader.gradients(0, 0))
    fresh = FakeStream()
    attached(fresh, uploader, sequence=1)
    fresh.events += bundle(0, gradient(3.0, 200_000))
    _, (array,) = awaited(uploader, fresh, 0)
    assert (array == 3.0).all()


def test_a_whole_bundle_that_comes_twice_is_taken_once() -> None:
    uploader, stream = pushed()
    stream.events += bundle(0, gradient(1.0)) + bundle(0, gradient(1.0))
    awaited(uploader, stream, 0)
    assert not waits(uploader.push(wanting(1), 0)), "the rest is read, and ignored"
    assert waits(uploader.gradients(1, 0))
    stream.events += bundle(1, gradient(4.0))
    _, (array,) = awaited(uploader, stream, 1)
    assert (array == 4.0).all()


def test_gradients_of_older_steps_are_ignored_whatever_they_hold() -> None:
    uploader, stream = pushed(step=1)
    stream.events += [*bundle(0, {"nonsense": np.zeros(7, np.float32)}), *bundle(1, gradient(5.0))]
    _, (array,) = awaited(uploader, stream, 1)
    assert (array == 5.0).all()


def test_a_server_that_has_gone_on_cannot_be_caught_up_with() -> None:
    """A later life of this client finds its uploads there, and only the newest gradients."""
    stream = FakeStream()
    uploader = attached(stream, sequence=3)
    stream.events += bundle(2, gradient(1.0))
    assert not waits(uploader.push(wanting(0), 0))
    with pytest.raises(WorkLost, match=r"wants the cut gradients of step 0.*the server is at step 2"):
        list(uploader.gradients(0, 0))


def test_the_last_upload_of_an_earlier_life_is_answered_with_what_is_sent_again() -> None:
    stream = FakeStream()
    uploader = attached(stream, sequence=1)
    stream.events += bundle(0, gradient(6.0))
    assert not waits(uploader.push(wanting(0), 0))
    _, (array,) = awaited(uploader, stream, 0)
    assert (array == 6.0).all() and not stream.frames


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"other": np.zeros((2, 3), np.float32)}, "expected 1 tensors ['activations'], got 1 ['other']"),
        ({"activations": np.zeros((2, 4), np.float32)}, "must be float32 [2, 3], got float32 [2, 4]"),
        ({"activations": np.zeros((1, 3), np.float32)}, "must be float32 [2, 3], got float32 [1, 3]"),
        ({"activations": np.zeros((2, 3), np.float64)}, "must be float32 [2, 3], got float64 [2, 3]"),
        ({"activations": np.full((2, 3), np.nan, np.float32)}, "tensor activations must be finite, got 6 NaN or Inf"),
    ],
)
def test_gradients_that_do_not_fit_the_upload_are_the_server_s_fault(tensors: dict[str, Array], expected: str) -> None:
    uploader, stream = pushed()
    stream.events += bundle(0, tensors)
    with pytest.raises(ServerTensorError, match="the server's cut gradients, step 0") as error:
        list(uploader.gradients(0, 0))
    assert expected in str(error.value)


def test_a_loss_that_is_not_finite_is_the_server_s_fault() -> None:
    uploader, stream = pushed()
    stream.events += bundle(0, gradient(1.0), loss=float("nan"))
    with pytest.raises(ServerTensorError, match="step 0: the loss must be finite, got nan; look at the server's log"):
        list(uploader.gradients(0, 0))


def test_cut_gradients_of_a_step_that_the_round_does_not_have_are_refused() -> None:
    uploader, stream = pushed()
    stream.events += bundle(OPENING.steps, gradient(1.0))
    with pytest.raises(BadReply, match="cut gradients of step 9, a round has 9 uploads"):
        list(uploader.gradients(0, 0))


def test_a_bundle_that_does_not_begin_at_its_start_is_a_tensor_error() -> None:
    uploader, stream = pushed(width=200_000)
    stream.events += bundle(0, gradient(1.0, 200_000))[1:]
    with pytest.raises(ServerTensorError, match="expected the chunk at byte 0, got the one at 1048576"):
        list(uploader.gradients(0, 0))


def test_what_comes_back_is_what_the_upload_says_not_what_it_holds() -> None:
    inbox = CutInbox()
    tensors = {
        "activations": np.zeros((2, 3), np.float32),
        "codes": np.zeros((2, 3), np.int64),
        "labels": np.zeros(2, np.int64),
    }
    inbox.want(Upload(1, 0, 2, 4, tensors, [("activations", "float32", (4, 3))]))
    (event,) = bundle(0, {"activations": np.ones((4, 3), np.float32)})
    inbox.put(event)
    found = inbox.take()
    assert found is not None and found[1][0].shape == (4, 3)
    assert inbox.take() is None
