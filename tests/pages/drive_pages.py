"""Opens the pages of the workflow door in Chromium: they must show every operation, work, and load nothing from elsewhere.

Usage: drive_pages.py <path of the countersign binary>. Starts a server of its own on free ports and a fresh data directory.
Needs chromium and chromedriver on the PATH.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

BINARY = sys.argv[1]
# How long a page may take for one thing, in seconds.
PATIENCE = 60

# Notes whatever the policy stops, from before the first script runs.
HEAR = """
window.stopped = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.stopped.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
# The anchors of the operations that a page shows; they end in the operation's id.
SHOWN = {
    "docs": "return [...document.querySelectorAll('.opblock')].map((block) => block.id)",
    "redoc": "return [...document.querySelectorAll('[id*=\"operation/\"]')].map((section) => section.id)",
}


class Server:
    """A countersign process."""

    def __init__(self, data):
        environment = {
            "COUNTERSIGN_LISTEN": "127.0.0.1:0",
            "COUNTERSIGN_MANAGEMENT_LISTEN": "127.0.0.1:0",
            "COUNTERSIGN_DATA": data,
        }
        self.process = subprocess.Popen(
            [BINARY], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        ready = self.process.stdout.readline()
        words = dict(word.split("=", 1) for word in ready.split()[1:])
        self.url = f"{words['public']}/v1/awe"

    def document(self):
        with urllib.request.urlopen(f"{self.url}/openapi.json") as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


def check(holds, said):
    if not holds:
        sys.exit(f"pages: {said}")


def open_browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # The sandbox needs a user other than root; what is opened here is our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    # Other machines are not found, so that a page that needs one shows it.
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HEAR})
    return driver


class Page:
    """One of the two pages, opened."""

    def __init__(self, driver, server, name, operations):
        self.driver, self.server, self.name = driver, server, name
        driver.get(f"{server.url}/{name}")
        self.until(f"shows {len(operations)} operations", lambda: len(self.shown()) >= len(operations))
        missing = {one for one in operations if not any(anchor.endswith(one) for anchor in self.shown())}
        check(not missing, f"{name} does not show {missing}")

    def run(self, script):
        return self.driver.execute_script(script)

    def until(self, said, holds):
        try:
            WebDriverWait(self.driver, PATIENCE).until(lambda _: holds())
        except TimeoutException:
            self.settle()
            sys.exit(f"pages: {self.name} never {said}")

    def shown(self):
        return self.run(SHOWN[self.name])

    def settle(self):
        """Whether the page has done all that with what it was given, and without a complaint."""
        stopped = self.run("return window.stopped")
        check(not stopped, f"the policy of {self.name} stopped {stopped}")
        said = [row["message"] for row in self.driver.get_log("browser") if row["level"] in ("SEVERE", "WARNING")]
        check(not said, f"{self.name} said {said}")
        events = (json.loads(row["message"])["message"] for row in self.driver.get_log("performance"))
        asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        foreign = [url for url in asked if not url.startswith((f"{self.server.url}/", "data:", "blob:"))]
        check(not foreign, f"{self.name} asked for {foreign}")


def use_swagger(page):
    """Opens every operation and every schema, and calls one."""
    page.run("document.querySelectorAll('.opblock-summary-control').forEach((button) => button.click())")
    page.until("opens all operations", lambda: page.run(
        "return document.querySelectorAll('.opblock.is-open .responses-wrapper').length"
        " >= document.querySelectorAll('.opblock').length"))
    health = "document.querySelector('[id$=get_health]')"
    page.run(f"{health}.querySelector('.try-out__btn').click()")
    page.until("lets a call be tried", lambda: page.run(f"return {health}.querySelector('.execute') !== null"))
    page.run(f"{health}.querySelector('.execute').click()")
    page.until("shows the answer to a call", lambda: page.run(
        f"return {health}.querySelector('.live-responses-table tbody .response-col_status')?.innerText.startsWith('200')"))


def use_redoc(page):
    """Looks for an operation."""
    page.driver.find_element("css selector", "input[placeholder='Search...']").send_keys("delegate")
    page.until("finds what is looked for", lambda: page.run(
        "return document.querySelectorAll('[data-role=\"search:results\"] li').length > 0"))


def main():
    with tempfile.TemporaryDirectory() as data:
        server = Server(data)
        try:
            document = server.document()
            items = [*document["paths"].values(), *document["webhooks"].values()]
            operations = {one["operationId"] for item in items for one in item.values()}
            driver = open_browser()
            try:
                for name, use in (("docs", use_swagger), ("redoc", use_redoc)):
                    page = Page(driver, server, name, operations)
                    use(page)
                    page.settle()
                    print(f"pages: {name} shows {len(operations)} operations, and complains of nothing")
            finally:
                driver.quit()
        finally:
            server.stop()


main()
