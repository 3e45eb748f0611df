"""The page in a browser: everything that it offers, clicked through as a user does, without a network."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import zoo
from PIL import Image

pytest.importorskip("dash")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from waiting import SLOW, line_of

import zoo as package
from zoo.ui.panel import number

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    ),
]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--window-size=1000,760",
    "--disable-dev-shm-usage",
    "--disable-gpu",  # nothing on the page needs one
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


@pytest.fixture(scope="module")
def files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with crystals that can be answered and some that cannot."""
    folder = tmp_path_factory.mktemp("files")
    salt = (trained / "NaCl.cif").read_text()
    (folder / "salt.cif").write_text(salt)
    (folder / "torn.cif").write_text(salt[: len(salt) // 3])
    (folder / "salt10.cif").write_text(salt)
    (folder / "binary.cif").write_bytes(bytes(range(256)) * 64)
    return folder


@pytest.fixture(scope="module")
def address(ensemble: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the page that `zoo ui` serves, stopped by Ctrl-C at the end."""
    said = tmp_path_factory.mktemp("said") / "stdout"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{trained / 'mlflow.db'}",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with said.open("w") as out:
        command = [sys.executable, "-m", "zoo", "ui", "run", "--port", "0", "--no-browser", "--device", "cpu"]
        process = subprocess.Popen(
            command,
            cwd=ensemble,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            # A shell's background jobs, and what they start, ignore Ctrl-C: not this one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        line = line_of(process, said, "http://127.0.0.1:")
        yield next(word for word in line.split() if word.startswith("http://"))
        assert "Traceback" not in said.read_text(), said.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(SLOW) == 0


class Page:
    """What a user does, and what is to be seen."""

    def __init__(self, browser: webdriver.Chrome, downloads: Path) -> None:
        self.browser = browser
        self.downloads = downloads

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait for it to be true."""
        return WebDriverWait(self.browser, SLOW, 0.2, ignored_exceptions=[Exception]).until(lambda _: what())

    def text(self, css: str) -> str:
        return " ".join(element.text for element in self.browser.find_elements(By.CSS_SELECTOR, css))

    def see(self, css: str, words: str) -> None:
        self.until(lambda: words in self.text(css))

    def drop(self, *paths: Path) -> None:
        chooser = self.browser.find_element(By.CSS_SELECTOR, "#upload input[type=file]")
        self.browser.execute_script("arguments[0].value = null", chooser)  # selenium adds to what was chosen before
        chooser.send_keys("\n".join(map(str, paths)))

    def choose(self, name: str, label: str) -> None:
        self.browser.find_element(By.ID, name).click()
        options = self.until(
            lambda: [
                element
                for element in self.browser.find_elements(By.CSS_SELECTOR, ".dash-dropdown-option")
                if label in element.text
            ]
        )
        options[0].click()

    def open(self, label: str) -> None:
        """Open a tab."""
        next(tab for tab in self.browser.find_elements(By.CSS_SELECTOR, ".tab") if tab.text == label).click()

    def switch(self, label: str) -> None:
        """A checkbox or a choice below the picture."""
        labels = self.browser.find_elements(By.CSS_SELECTOR, ".shown label")
        next(one for one in labels if one.text == label).click()

    def tensor(self, css: str = ".model-0") -> list[list[str]]:
        rows = self.browser.find_elements(By.CSS_SELECTOR, f"{css} .matrix tbody tr")
        return [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]

    def picture(self) -> np.ndarray:
        """Pixels of the canvas, on white."""
        sent = self.browser.execute_script("return document.getElementById('picture').toDataURL()")
        drawn = Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2]))).convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        return np.asarray(Image.alpha_composite(white, drawn).convert("RGB")).astype(int)

    def download(self, name: str, button: str) -> list[dict[str, Any]]:
        self.browser.find_element(By.ID, button).click()
        path = self.downloads / name
        # The file may be there before all of it is: what cannot be read yet is asked for again.
        content: list[dict[str, Any]] = self.until(lambda: json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
        return content


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[webdriver.Chrome, Path]]:
    """Chromium, and the folder of its downloads."""
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, NO_NETWORK, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    yield driver, folder
    driver.quit()


@pytest.fixture
def page(address: str, browser: tuple[webdriver.Chrome, Path]) -> Iterator[Page]:
    """The page, freshly opened; afterwards nothing has gone wrong in it, and nothing was asked of another machine."""
    driver, folder = browser
    driver.get(address)
    opened = Page(driver, folder)
    opened.see("#heading", "No crystal yet")
    yield opened
    assert not [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert loaded and all(name.startswith((address, "data:", "blob:")) for name in loaded)


def same(found: Any, expected: Any) -> bool:
    """Equal in all names and their order, numbers within float32's rounding."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == pytest.approx(expected, rel=1e-4, abs=1e-5) if isinstance(expected, float) else found == expected


def test_a_crystal_is_dropped_seen_compared_and_downloaded(page: Page, files: Path, ensemble: Path) -> None:
    page.drop(files / "torn.cif", files / "salt10.cif", files / "salt.cif", files / "binary.cif")
    page.see("#heading", "NaCl")
    page.see("#read", "2 of 4 read")
    assert "torn.cif: " in page.text("#read") and "binary.cif: " in page.text("#read")
    assert not page.text("#message")
    answer = package.load(ensemble / "run", "cpu").predict(files / "salt.cif", neighbours=5)
    assert page.tensor() == [
        [f"{number(x)} ± {number(s)}" for x, s in zip(*rows, strict=True)]
        for rows in zip(answer.tensor, answer.spread, strict=True)
    ]
    assert "cubic, 8 atoms" in page.text("#heading")
    numbers = page.text(".numbers")
    assert number(answer.polycrystalline) in numbers and "±" not in numbers  # the interval says how sure it is
    low, high = answer.intervals["polycrystalline"]
    assert f"{number(low)} to {number(high)}" in numbers
    nearest = page.text(".nearest")
    assert all(near["key"] in nearest for near in answer.nearest)
    for warning in answer.warnings:
        assert warning in page.text(".warning")
    page.choose("coverage", "50 %")
    low, high = (
        package.load(ensemble / "run", "cpu").predict(files / "salt.cif", coverage=0.5).intervals["polycrystalline"]
    )
    page.see(".numbers", f"{number(low)} to {number(high)}")
    page.choose("coverage", "90 %")
    page.see(".numbers", f"{number(answer.intervals['polycrystalline'][0])} to")
    printed = zoo(
        "predict",
        str(ensemble / "run"),
        "binary.cif",
        "salt.cif",
        "salt10.cif",
        "torn.cif",
        "--format",
        "json",
        cwd=files,
    )
    assert same(page.download("answers.json", "save"), json.loads(printed.stdout))

    page.choose("other", "small-total, champion")
    page.see(".difference", "Second − first")
    first, second, difference = (
        np.array([[float(cell.split(" ± ")[0].replace("−", "-")) for cell in row] for row in page.tensor(css)])
        for css in (".model-0", ".model-1", ".difference")
    )
    np.testing.assert_allclose(second - first, difference, atol=2e-3)
    assert np.abs(difference).max() > 0
    page.choose("crystal", "salt10.cif")
    page.see("#heading", "salt10.cif")
    page.open("Structure")
    page.see("#content", "5.64")
    page.see(".sites", "6 Cl")
    page.choose("crystal", "salt.cif")
    page.see("#heading", "salt.cif")
    page.see(".sites", "6 Cl")  # the tab that was open stays open
    page.open("Answer")
    page.see(".difference", "Second − first")


def test_the_picture_is_drawn_switched_and_turned(page: Page) -> None:
    page.browser.find_element(By.ID, "show-example").click()
    page.see("#heading", "MoO")
    page.see("#caption", "r = ε·n")
    assert page.text("#legend").split() == ["O", "Mo"]

    def blue() -> int:
        """Pixels that only the surface has: molybdenum is greenish, oxygen red, axes and lines are few."""
        shown = page.picture()
        return int((shown[..., 2] > shown[..., 0] + 25).sum())

    page.until(lambda: blue() > 5_000)
    with_surface = blue()
    page.switch("tensor surface")
    page.until(lambda: blue() < 0.5 * with_surface)
    without = page.picture()
    assert len(np.unique(without.reshape(-1, 3), axis=0)) > 200, "atoms, with light and shade"
    page.switch("polyhedra")
    page.until(lambda: np.any(page.picture() != without))
    page.switch("polyhedra")
    page.until(lambda: np.all(page.picture() == without))
    page.switch("2×2×2")
    page.until(lambda: np.any(page.picture() != without))
    page.switch("1×1×1")
    page.until(lambda: np.all(page.picture() == without))
    page.browser.find_element(By.ID, "along-c").click()
    page.until(lambda: np.any(page.picture() != without))
    page.browser.find_element(By.ID, "picture").send_keys(Keys.ARROW_LEFT)
    page.browser.find_element(By.ID, "reset").click()
    page.until(lambda: np.all(page.picture() == without))
    page.switch("tensor surface")
    page.until(lambda: blue() > 0.9 * with_surface)
    picture = page.browser.find_element(By.ID, "picture")
    ActionChains(page.browser).move_to_element(picture).perform()
    found = page.browser.execute_script("return window.zooPicture().atoms.find((atom) => atom[3] === 4)")
    dx, dy = found[0] - picture.size["width"] / 2, found[1] - picture.size["height"] / 2
    ActionChains(page.browser).move_to_element_with_offset(picture, round(dx), round(dy)).perform()
    page.see("#tip", "atom")


def test_on_a_telephone_nothing_is_wider_than_the_screen_and_the_axes_are_whole(page: Page, files: Path) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.drop(files / "salt.cif", files / "torn.cif")
        page.see("#heading", "NaCl")
        page.see("#keys", "Polycrystalline")
        page.until(lambda: len(np.unique(page.picture().reshape(-1, 3), axis=0)) > 200)
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 390
        corner = page.picture()[-92:, :92]
        dark = np.argwhere((corner < 90).all(axis=-1))
        assert len(dark) > 100, "the axes x, y, z"
        assert (dark.min(axis=0) > 1).all() and (dark.max(axis=0) < 90).all(), "none of them is cut"
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_bad_files_and_settings_are_one_sentence_and_the_page_lives_on(page: Page, files: Path) -> None:
    page.drop(files / "binary.cif")
    page.see("#read", "binary.cif: ")
    large = files / "large.cif"
    large.write_bytes(b"x" * 6_000_000)
    page.drop(large)
    page.see("#read", "5 MB")
    page.drop(files / "salt.cif")
    page.see("#heading", "NaCl")
    symprec = page.browser.find_element(By.ID, "symprec")
    symprec.send_keys("7\n")
    page.see("#message", "symprec is")
    symprec.clear()
    symprec.send_keys("0.01\n")
    page.see("#heading", "NaCl")
    page.until(lambda: not page.text("#message"))
    (a, *_), (_, b, _), (*_, c) = page.tensor()
    assert a == b == c, "cubic, projected"
