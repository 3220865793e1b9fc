"""Draw docs/report.png and docs/report-phone.png from the output of `make demo`.

Needs Playwright (`pip install 'truckscape[dev]'`) and Chromium: python docs/report_picture.py runs/demo
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

SCREENS = {"report": (1280, 900, 1), "report-phone": (390, 844, 2)}
"""Name of the picture: width, height and pixels of the screen by pixel of the page."""


def main(demo: Path) -> None:
    """Open the report, click on the surest missed truck, and draw the map beside it."""
    (report,) = (demo / "layers").glob("S2*/evaluation/report.html")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, screen in SCREENS.items():
            picture = Image.open(io.BytesIO(photograph(browser, report, *screen)))
            picture.convert("RGB").quantize(256, kmeans=3).save(
                Path(__file__).with_name(f"{name}.png"), optimize=True
            )
        browser.close()


def photograph(browser: Browser, report: Path, width: int, height: int, scale: int) -> bytes:
    """Return what a screen shows once the first missed truck is chosen."""
    size = {"width": width, "height": height}
    page = browser.new_page(viewport=size, device_scale_factor=scale, reduced_motion="reduce")  # type: ignore[arg-type]
    page.goto(report.resolve().as_uri())
    page.locator("#gallery button:has(img[alt^=Missed])").first.click()
    page.wait_for_timeout(1000)
    return page.screenshot()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
