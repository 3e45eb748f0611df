"""Training steps in bfloat16 and float16: what they cost, and what they do to the tensors and their equivariance."""

from __future__ import annotations

from harness import Case, measure, worker
from report import Options, Section, command

PRECISIONS = ("float32", "bfloat16", "float16")
COLUMNS = {
    "equivariance": "equivariance, median",
    "equivariance_max": "largest",
    "tensor": "tensor, median",
    "tensor_max": "largest",
    "gradient": "gradient",
}


def main(options: Options) -> Section:
    argv = worker("rounding.py", 2 if options.quick else 100)
    measured = measure(
        [Case(name, argv, name) for name in PRECISIONS],
        repeats=options.repeats,
        threads=options.threads,
        limits=False,
    )
    about = measured.passes["float32"].about
    body = (
        "`nequip_dtnet_total` after 100 steps in float32, on 32 crystals of `petousis2017` that it has not seen. "
        "Equivariance: ‖Rᵀ ε(R x) R − ε(x)‖ / ‖ε(x)‖ for a random R; tensor: against float32; gradient: of the loss, "
        "against float32's. What is validated and served is float32, and keeps float32's equivariance, whatever a step "
        "was computed in.\n\n"
        f"{_effects(about['effects'])}\n\nautocast around the whole model, on the CPU: {about['plain_autocast']}\n\n"
        "A step, forward and backward:\n\n" + measured.table(against="float32", item="crystal")
    )
    return Section("Precision", body, [], [measured])


def _effects(effects: dict[str, dict[str, float]]) -> str:
    rows = [["rounded", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
    rows += [[what, *(f"{values[name]:.1e}" for name in COLUMNS)] for what, values in effects.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    command(main)
