"""`zoo convert`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("encoder")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sha256", help="Checksum that the file must have. Required unless it is a published file.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write, *.safetensors.")
def convert_command(encoder: str, file: Path, sha256: str | None, out: Path | None) -> None:
    """Convert weights that another package wrote, once, to a safetensors file that ENCODER reads.

    Nothing of FILE is executed, and the package that wrote it need not be installed. Its SHA-256 must be that of
    published weights that the zoo knows, which then go where the encoder looks for them, or the one that you give.

    \b
    zoo convert mace 2024-01-07-mace-128-L2_epoch-199.model
    zoo convert mace mine.model --sha256 $(sha256sum mine.model | cut -d' ' -f1) --out mine.safetensors
    """
    from zoo.config import plugins
    from zoo.contract.plugin import Encoder
    from zoo.errors import ZooError
    from zoo.storage.weights import SUFFIX, Weights, default_path, save_weights, sha256_of

    cls = plugins.load("encoder", encoder)
    if getattr(cls.convert, "__func__", None) is Encoder.convert.__func__:  # type: ignore[attr-defined]
        raise ZooError(f"the encoder {encoder} has nothing to convert")
    if file.is_dir() or not file.exists():
        raise ZooError(f"{file} is no file")
    checksum = sha256_of(file)
    click.echo(f"sha256 {checksum}  {file}")
    name = next((name for name, known in cls.public_weights.items() if known.sha256 == checksum), None)
    if sha256 is not None and sha256.lower() != checksum:
        raise ZooError(f"{file} does not have the checksum --sha256 {sha256}")
    if name is None and sha256 is None:
        namesake = next((known for known in cls.public_weights.values() if known.file == file.name), None)
        if namesake is not None:
            raise ZooError(f"{file} is not the published {namesake.file}, whose sha256 is {namesake.sha256}")
        raise ZooError(
            f"{file} is none of the published weights that the zoo knows; to convert it: --sha256 {checksum}"
        )
    if out is None:
        if name is None and file.stem in cls.public_weights:
            raise ZooError(f"{file} has the name of public weights that it is not: choose another with --out")
        out = default_path(encoder, name or file.stem)
    elif out.suffix != SUFFIX:
        raise ZooError(f"--out {out}: the file must end in {SUFFIX}")
    try:
        weights = cls.convert(file)
        metadata = {**weights.metadata, "source": file.name, "source_sha256": checksum}
        save_weights(encoder, Weights(weights.tensors, metadata), out)
    except ZooError:
        raise
    except Exception as error:  # what is in a damaged or hostile file can fail anywhere
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ZooError(f"{file} is no {encoder} file that can be converted ({reason})") from error
    click.echo(f"{sum(t.numel() for t in weights.tensors.values()):,} numbers in {out}")
    click.echo(f"in a recipe: encoder: {{name: {encoder}, weights: {name or out}}}")
