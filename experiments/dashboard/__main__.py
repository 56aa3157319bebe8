"""Take the picture of the dashboard: `python -m experiments.dashboard URL`.

Needs chromium, chromedriver and selenium. Writes dashboard.png and targets.json into results/dashboard/. Nothing is
drawn here: this opens TensorBoard's own page, closes the side pane, switches the data tables under the curves off, and
lays the cards out larger, so that the pictures on them can be read.
"""

from __future__ import annotations

import shutil
import sys
import time

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from experiments.lab.folders import ROOT
from experiments.lab.targets import target, write_targets

OUT, COMMAND = ROOT / "results/dashboard", "python -m experiments.dashboard"
WIDTH, HEIGHT, SECONDS = 1600, 1780, 40
LARGER = """
for (const box of document.querySelectorAll('mat-checkbox'))
  if (box.innerText.includes('Enable step selection') && box.querySelector('input').checked)
    box.querySelector('input').click();
for (const button of document.querySelectorAll('button'))
  if (button.innerText.trim() == 'Settings') button.click();
const style = document.createElement('style');
style.textContent = `.card-grid { grid-template-columns: repeat(2, 1fr) !important; }
  card-view, card-view > * { height: 450px !important; max-height: none !important; }
  image-card img { max-width: 100% !important; width: auto !important; height: 345px !important; }`;
document.head.appendChild(style);
"""

CARDS = "[...document.querySelectorAll('card-view')]"
DRAWN = "[...document.querySelectorAll('image-card img')].filter(image => image.naturalWidth > 0)"

FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")


def main(address: str) -> None:
    """Save the picture of a page, and count what the browser drew on it."""
    options = Options()
    for flag in (*FLAGS, f"window-size={WIDTH},{HEIGHT}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.get(address)
        time.sleep(SECONDS)
        browser.execute_script(LARGER)
        time.sleep(SECONDS / 2)
        browser.save_screenshot(str(OUT / "dashboard.png"))
        cards, drawn = (len(browser.execute_script(f"return {what}")) for what in (CARDS, DRAWN))
    finally:
        browser.quit()
    promises = (("cards on the page", 6, cards), ("pictures that the browser drew", 3, drawn))
    write_targets(OUT, [target(what, f">= {n}", counted, counted >= n, COMMAND) for what, n, counted in promises])


if __name__ == "__main__":
    main(sys.argv[1])
