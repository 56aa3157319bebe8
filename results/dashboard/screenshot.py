"""Take the picture of the dashboard: `python screenshot.py URL OUT.png` (needs chromium, chromedriver and selenium).

Writes targets.json beside the picture. Nothing is drawn by this script: it opens TensorBoard's own page, closes the side
pane, switches the data tables under the curves off, and lays the cards out larger, so that the pictures on them can be
read.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

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

options = Options()
for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
    options.add_argument(argument)
options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
try:
    browser.get(sys.argv[1])
    time.sleep(SECONDS)
    browser.execute_script(LARGER)
    time.sleep(SECONDS / 2)
    browser.save_screenshot(sys.argv[2])
    cards, drawn = (len(browser.execute_script(f"return {what}")) for what in (CARDS, DRAWN))
finally:
    browser.quit()

promises = (("cards on the page", 6, cards), ("pictures that the browser drew", 3, drawn))
targets = [
    {"target": what, "bound": f">= {least}", "measured": count, "met": count >= least, "command": "screenshot.py"}
    for what, least, count in promises
]
Path(sys.argv[2]).with_name("targets.json").write_text(json.dumps(targets, indent=2) + "\n")
