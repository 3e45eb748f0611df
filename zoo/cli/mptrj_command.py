"""The command `zoo data mptrj`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("mptrj")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.extxyz", help="To be written.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many frames.")
def mptrj(file: Path, out: Path, limit: int | None) -> None:
    """Write MPtrj's frames as extended XYZ: energy, forces and stress of DFT.

    FILE is MPtrj_2022.9_full.json (figshare, doi 10.6084/m9.figshare.23713842), or a part of it in its form. The energy
    is the uncorrected one, whose slopes the forces are; the stress is turned into eV/Å³ in the sign of ASE. Frames that
    lack a label are left out and counted. Only one of them is in memory at a time.

    \b
    zoo data mptrj MPtrj_2022.9_full.json --out mptrj.extxyz
    """
    from itertools import islice

    from tqdm import tqdm

    from zoo.data.extxyz_frames import extxyz
    from zoo.data.mptrj import mptrj_frames
    from zoo.errors import ZooError, clear_disk_errors

    if out.exists():
        raise ZooError(f"{out} is there already: delete it, or name another file with --out")
    if not out.absolute().parent.is_dir():
        raise ZooError(f"--out {out}: there is no folder {out.parent}")
    partial = out.with_name(f"{out.name}.partial")
    written, refused, first = 0, 0, ""
    with clear_disk_errors(out.absolute().parent):
        try:
            with partial.open("w", encoding="utf-8") as target:
                frames = islice(mptrj_frames(file), limit)
                for frame in tqdm(frames, desc="converting", unit=" frames", disable=None, leave=False):
                    if isinstance(frame, ZooError):
                        refused, first = refused + 1, first or str(frame)
                    else:
                        target.write(extxyz([frame]))
                        written += 1
            if not written:
                raise ZooError(f"{file}: no frame can be used{f'; the first: {first}' if first else ''}")
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    click.echo(f"{written:,} frames are in {out}")
    if refused:
        click.echo(f"left out: {refused:,} frames; the first: {first}", err=True)
