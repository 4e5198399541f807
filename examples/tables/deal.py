"""Writes the examples' rows as `.csv`, from the copies of two public data sets that come with scikit-learn.

    .venv/bin/python examples/tables/deal.py [FOLDER]

The rows are shuffled with a fixed seed and dealt to two clients and the server's test set. FOLDER: this one.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

CULTIVARS = ("barolo", "grignolino", "barbera")
WINE = (
    "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
    "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280_od315", "proline", "cultivar",
)  # fmt: skip
DIABETES = (
    "age", "sex", "bmi", "blood_pressure", "total_cholesterol", "ldl", "hdl", "cholesterol_ratio", "triglycerides_log",
    "glucose", "progression",
)  # fmt: skip


def deal(folder: Path) -> None:
    """Six files: `wine/` and `diabetes/`, each with two clients' and the server's."""
    rng = np.random.default_rng(0)
    wine, diabetes = load_wine(), load_diabetes(scaled=False)
    cultivars = [CULTIVARS[number] for number in wine.target]
    _write(folder / "wine", WINE, [*_columns(wine.data), cultivars], rng, {"cellar-a": 70, "cellar-b": 70, "test": 38})
    progression = [int(value) for value in diabetes.target]
    columns = [*_columns(diabetes.data), progression]
    _write(folder / "diabetes", DIABETES, columns, rng, {"clinic-a": 160, "clinic-b": 170, "test": 112})


def _columns(values: np.ndarray) -> list[list[float]]:
    """Whole numbers are written without a point, where a column holds nothing else."""
    return [[int(v) for v in c] if (c == c.round()).all() else [float(v) for v in c] for c in values.T]


def _write(folder: Path, names: tuple[str, ...], columns: list, rng: np.random.Generator, parts: dict) -> None:
    rows = list(zip(*columns, strict=True))
    order = rng.permutation(len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, count in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(rows[place] for place in order[start : start + count])
        start += count


if __name__ == "__main__":
    deal(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
