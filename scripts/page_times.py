"""Time the page in Chromium without a graphics card, and take its pictures.

    python scripts/page_times.py MODEL [FILE] [--out FOLDER]

starts `zoo ui MODEL`, opens it at 1280 and at 390 px, drops FILE (without one it shows the example), and prints the
seconds until the picture and until the first number, and the bytes of each answer of the server; at 390 px the model's
answer is known already. With --out it leaves page.png and page_390.png there. Needs chromium, chromedriver, selenium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

LIMIT = 300  # s
READY = "return document.querySelector('#heading')?.textContent === 'No crystal yet'"
NUMBER = "const cell = document.querySelector('.numbers .value'); return cell ? cell.textContent : ''"
PICTURE = """
const canvas = document.getElementById('picture');
const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
return pixels.some((value, n) => n % 4 === 3 && value > 0)
"""
SENT = """
return performance.getEntriesByType('resource').filter((one) => one.name.includes('_dash-update'))
  .map((one) => one.transferSize)
"""


def browser(width: int, height: int, folder: str) -> webdriver.Chrome:
    """Chromium with a window of that size."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}")
    for flag in flags:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return driver


def times(driver: webdriver.Chrome, scripts: dict[str, str]) -> dict[str, float]:
    """Seconds until each of the scripts has returned something true."""
    start = time.perf_counter()
    found: dict[str, float] = {}
    while len(found) < len(scripts):
        for name, script in scripts.items():
            if name not in found and driver.execute_script(script):
                found[name] = time.perf_counter() - start
        if time.perf_counter() - start > LIMIT:
            raise SystemExit(f"not within {LIMIT} s: {driver.find_element(By.TAG_NAME, 'body').text}")
        time.sleep(0.02)
    return found


def give(driver: webdriver.Chrome, file: str | None) -> None:
    """Drop the file, or show the example."""
    if file is None:
        driver.find_element(By.ID, "show-example").click()
    else:
        driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]").send_keys(str(Path(file).resolve()))


def visit(address: str, file: str | None, width: int, height: int, picture: Path | None) -> None:
    """Open the page, ask, print the times, and keep a picture of it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = browser(width, height, folder)
        try:
            driver.get(address)
            times(driver, {"ready": READY})
            give(driver, file)
            found = times(driver, {"picture": PICTURE, "first number": NUMBER})
            told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found.items())
            print(f"{width} px: {told}, answers of {driver.execute_script(SENT)} bytes")
            time.sleep(1)
            if picture is not None:
                if width < 600:
                    driver.execute_script("document.querySelector('.top').scrollIntoView()")
                    time.sleep(0.5)
                driver.save_screenshot(str(picture))
                Image.open(picture).convert("RGB").quantize(255, Image.Quantize.MAXCOVERAGE).save(
                    picture, optimize=True
                )
        finally:
            driver.quit()


def main() -> None:
    """Serve the page and visit it."""
    parser = argparse.ArgumentParser(description="Time the page and take its pictures.")
    parser.add_argument("model")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "zoo", "ui", options.model, "--port", "0", "--no-browser", "--device", "cpu"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            for width, height, name in ((1280, 900, "page.png"), (390, 844, "page_390.png")):
                visit(address, options.file, width, height, options.out and options.out / name)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
