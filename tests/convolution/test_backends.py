"""Every backend of the convolution against `plain`: values, gradients, gradients of gradients."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve
from zoo.config import recipe
from zoo.convolution import backends, kernels
from zoo.convolution.backends import convolution_backend
from zoo.convolution.plain import plain
from zoo.convolution.segments import segments
from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.storage.run_folder import RunFolder
from zoo.workflows import matbench, train

# Few: `compiled` takes a second for every loop that it writes. Two paths into one sum, one of them odd.
BLOCKS = (
    Block(0, 3, (TensorProductPath(1, 1, 1),)),
    Block(1, 2, (TensorProductPath(1, 0, 0), TensorProductPath(1, 1, 1))),
)
OTHERS = tuple(name for name in backends.NAMES if name not in ("auto", "segments"))


class Made:
    """Some atoms, the last of which receives no edge."""

    def __init__(self, edges: int = 30, atoms: int = 5, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)
        self.dtype, self.atoms = dtype, atoms
        self.dst = torch.randint(0, max(atoms - 1, 1), (edges,), generator=generator).sort().values
        self.src = torch.randint(0, atoms, (edges,), generator=generator)
        self.vectors = self.randn(edges, 3, generator=generator)
        self.features = [self.randn(atoms, 2 * b.degree + 1, b.channels, generator=generator) for b in BLOCKS]
        torch.manual_seed(0)
        self.network = FullyConnectedNet([1, 4, sum(block.weights for block in BLOCKS)], silu).to(dtype)

    def randn(self, *shape: int, generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(self.dtype)

    def edges(self, vectors: Tensor) -> ConvolutionEdges:
        length = vectors.norm(dim=-1)
        harmonics = o3.spherical_harmonics([0, 1], vectors, normalize=True, normalization="component")
        return ConvolutionEdges(self.src, self.dst, harmonics, length.cos().unsqueeze(1), self.atoms, length)

    def by(self, backend: str) -> Callable[..., tuple[Tensor, ...]]:
        """Vectors, features -> sums."""

        def sums(vectors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
            with convolution_backend(backend):
                return tuple(convolve(features, BLOCKS, self.edges(vectors), self.network))

        return sums

    def plain(self, vectors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        edges = self.edges(vectors)
        return tuple(plain(features, BLOCKS, edges, self.network, edges.harmonics, edges.radial))

    def gradients(self, way: Callable[..., tuple[Tensor, ...]]) -> list[Tensor]:
        """Of vectors, features and radial network."""
        inputs = [x.clone().requires_grad_() for x in (self.vectors, *self.features)]
        out = way(*inputs)
        weighted = [x.square() * torch.arange(1.0, x.numel() + 1, dtype=x.dtype).view_as(x).sin() for x in out]
        return list(torch.autograd.grad(sum(x.sum() for x in weighted), [*inputs, *self.network.parameters()]))


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.fixture(params=OTHERS)
def backend(request: pytest.FixtureRequest) -> str:
    try:
        with convolution_backend(request.param):
            return request.param
    except ZooError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_values(backend: str, dtype: torch.dtype, tolerance: float) -> None:
    made, exact = Made(dtype=dtype), Made()
    with torch.no_grad():
        found = made.by(backend)(made.vectors, *made.features)
        assert found[0].dtype == dtype
        assert_close([x.double() for x in found], exact.plain(exact.vectors, *exact.features), tolerance)


def test_gradients(backend: str) -> None:
    made = Made()
    assert_close(made.gradients(made.by(backend)), made.gradients(made.plain), 1e-12)


def test_gradients_of_gradients(backend: str) -> None:
    """As a loss on forces wants them, by finite differences."""
    made = Made(edges=12)
    inputs = [x.requires_grad_() for x in (made.vectors, *made.features)]
    assert torch.autograd.gradgradcheck(made.by(backend), inputs, fast_mode=True)


def test_other_sizes_are_not_compiled_anew() -> None:
    first = Made()
    assert_close(first.gradients(first.by("compiled")), first.gradients(first.plain), 1e-12)
    torch.compiler.set_stance("fail_on_recompile")
    try:
        for made in (Made(edges=47, atoms=9), Made(edges=7), Made(edges=2, atoms=3)):
            assert_close(made.gradients(made.by("compiled")), made.gradients(made.plain), 1e-12)
    finally:
        torch.compiler.set_stance("default")


def test_only_what_is_wanted_gets_a_gradient(backend: str) -> None:
    made = Made()
    made.network.requires_grad_(False)
    last = made.features[-1].requires_grad_()
    found = [
        torch.autograd.grad(way(made.vectors, *made.features)[1].square().sum(), last)[0]
        for way in (made.by(backend), made.plain)
    ]
    assert_close(found[:1], found[1:], 1e-12)


def test_images_share_the_weights(backend: str) -> None:
    made = Made()
    features = [torch.stack([x, 2 * x.flip(0)], dim=2) for x in made.features]
    with torch.no_grad():
        found = made.by(backend)(made.vectors, *features)
        assert_close(found, made.plain(made.vectors, *features), 1e-12)


def test_no_edge(backend: str) -> None:
    made = Made(edges=0)
    assert not any(x.any() for x in made.by(backend)(made.vectors, *made.features))


def test_after_a_prediction_it_can_still_learn(backend: str) -> None:
    """What is kept from a pass in inference mode must not be of it."""
    made = Made()
    with torch.inference_mode():
        made.by(backend)(made.vectors, *made.features)
    assert_close(made.gradients(made.by(backend)), made.gradients(made.plain), 1e-12)


def test_the_kernel_takes_the_paths_as_they_are() -> None:
    """uniform_1d wants segments of one length, and products of them with scalars."""
    pytest.importorskip("cuequivariance", reason="the extra [cuequivariance] is not installed")
    for block in (
        *BLOCKS,
        Block(2, 16, tuple(TensorProductPath(l2, l3, l3) for l2 in range(3) for l3 in range(abs(2 - l2), 3))),
    ):
        made = kernels.polynomial(block, 2).flatten_coefficient_modes().squeeze_modes()
        assert made.all_same_segment_shape()
        ((_, product),) = made.operations
        assert len(product.subscripts.modes()) == 1
        assert product.coefficient_subscripts == ""


class TestChoice:
    def test_it_holds_within_the_context_and_this_thread(self) -> None:
        seen = []
        with convolution_backend("compiled"):
            thread = threading.Thread(target=lambda: seen.append(backends.chosen()))
            thread.start()
            thread.join()
            with convolution_backend("segments"):
                seen.append(backends.chosen())
            seen.append(backends.chosen())
        seen.append(backends.chosen())
        assert [backend.__name__ for backend in seen] == ["segments", "segments", "compiled", "segments"]

    def test_it_is_not_looked_up_in_the_backward_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = Made()

        def once(vectors: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
            out = made.by("segments")(vectors, *features)
            monkeypatch.setattr(backends, "chosen", None)
            return out

        assert_close(made.gradients(once), made.gradients(made.plain), 1e-12)

    def test_a_run_takes_it_and_its_model_does_not(
        self, small: dict, tmp_path: pathlib.TensorProductPath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Training and matbench; a stand-in counts, which compiles nothing."""
        seen = []

        def counted(*given: Any) -> Sequence[Tensor]:
            seen.append(len(given))
            return segments(*given)

        monkeypatch.setitem(backends._BACKENDS, "compiled", lambda device: counted)
        settings = small | {"convolution": {"backend": "compiled"}, "training": {"max_epochs": 1}}
        made, folder = recipe.parse(settings, "mine.yaml"), RunFolder(tmp_path / "run")
        train.run(made, folder, lambda line: None)
        in_training = len(seen)
        assert in_training > 2
        train.refuse_another_recipe(recipe.parse(small | {"training": {"max_epochs": 1}}, "mine.yaml"), folder)
        Predictor.load(folder.model).predict([next(iter(Petousis2017(Petousis2017.Hypers()).records())).structure])
        assert len(seen) == in_training
        monkeypatch.setattr(matbench, "_samples", lambda *_: pytest.fail(backends.chosen().__name__))
        with pytest.raises(pytest.fail.Exception, match="counted"):
            matbench.run(made, matbench.open_folds("petousis2017"), RunFolder(tmp_path / "folds"), lambda line: None)

    def test_a_name_that_is_none(self, small: dict) -> None:
        with pytest.raises(ZooError, match=r"no convolution backend 'compile'. Did you mean 'compiled'\?"):
            recipe.parse(small | {"convolution": {"backend": "compile"}}, "mine.yaml")

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cuequivariance_torch", None)
        with (
            pytest.raises(ZooError, match=r"crystal-tensor-zoo\[cuequivariance\]"),
            convolution_backend("cuequivariance"),
        ):
            pass

    def test_kernels_on_a_cpu(self) -> None:
        pytest.importorskip("cuequivariance_torch", reason="the extra [cuequivariance] is not installed")
        with (
            pytest.raises(ZooError, match="the device is cpu: set convolution"),
            convolution_backend("cuequivariance", torch.device("cpu")),
        ):
            pass

    def test_missing_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("cuequivariance_torch", reason="the extra [cuequivariance] is not installed")
        monkeypatch.setitem(sys.modules, "cuequivariance_ops_torch", None)
        with (
            pytest.raises(ZooError, match="pip install cuequivariance-ops-torch-cu"),
            convolution_backend("cuequivariance", torch.device("cuda")),
        ):
            pass

    def test_no_compiler(self, tmp_path) -> None:
        """One line, from the recipe on, and nothing is left behind."""
        argv = [
            "run",
            "nequip_dtnet_total",
            "convolution.backend=compiled",
            "device=cpu",
            "--out",
            str(tmp_path / "run"),
        ]
        env = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run([sys.executable, "-m", "zoo", *argv], env=env, capture_output=True, text=True)
        assert done.returncode == 2
        assert "install a C++ compiler" in done.stderr and "convolution.backend=auto" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()
