"""Take the picture of the dashboard: `python screenshot.py URL OUT.png` (needs chromium, chromedriver and selenium).

Nothing is drawn by this script: it opens TensorBoard's own page, closes the side pane, switches the data tables under
the curves off, and lays the cards out larger, so that the pictures on them can be read.
"""

import shutil
import sys
import time

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
finally:
    browser.quit()
