"""A handful of the generated inputs over real processes: the twin's digest, or one line and exit code 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from integration.generated_inputs import RUN, World, npz, pictures
from integration.generated_pictures import picture_cases
from PIL import Image
from processes import Bench

INPUT = 4


def test_strangers_over_grpc_end_as_their_twin_or_are_told(bench: Bench, tmp_path: Path) -> None:
    world = World(tmp_path)
    server = bench.server({**RUN, "server": {"test_data": "npz", "test_path": world.test["path"], "device": "cpu"}})
    address = server.address()
    refused = {name: bench.client(name, address, data=data, device="cpu") for name, data in bad_data(tmp_path).items()}
    for name, program in refused.items():
        assert program.ends() == INPUT, program.stderr
        said = [line for line in program.stderr if line.startswith("heron-client: ")]
        assert len(said) == 1 and name in said[0] and "Traceback" not in "".join(program.stderr), program.stderr
    turned = next(case for case in picture_cases() if case.name.endswith("EXIF 6 says"))
    data = {"a": turned.write(tmp_path), "b": world.b}
    clients = [bench.client(name, address, data=data[name], device="cpu") for name in data]
    assert server.summary()["model_sha256"] == world.twin.digest
    assert [client.ends() for client in clients] == [0, 0]


def bad_data(folder: Path) -> dict[str, dict[str, Any]]:
    """By a word that the refusal must say; each is also its client's name."""
    x, y = pictures("a")
    torn = folder / "torn" / "apple" / "torn.png"
    torn.parent.mkdir(parents=True)
    Image.fromarray(x[0, 0]).save(torn)
    torn.write_bytes(torn.read_bytes()[:40])
    return {
        "channels": npz(folder / "channels.npz", x=x.transpose(0, 2, 3, 1), y=y),
        "uint16": npz(folder / "uint16.npz", x=x.astype(np.uint16), y=y),
        "deviation": npz(folder / "scale.npz", x=x.astype(np.float32), y=y),
        "classes": {"source": "image_folder", "path": str(folder / "torn")},
        "nowhere": {"source": "npz", "path": "/nowhere.npz"},
    }
