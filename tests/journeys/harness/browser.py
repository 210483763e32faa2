"""A real browser. It resolves the journey's hosts to where they are, and trusts the journey's certificates by their keys."""

import json

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from webdriver_pages import left

from .certificates import spki


class Browser:
    def __init__(self, folder, addresses, certificates):
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        rules = [f"MAP {host} {at}:{port}" for host, (at, port) in addresses.items()]
        for flag in (
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1000,800",
            "--host-resolver-rules=" + ", ".join(rules),
            "--ignore-certificate-errors-spki-list=" + ",".join(spki(certificate) for certificate in certificates),
            f"--user-data-dir={folder / 'browser'}",
        ):  # fmt: skip
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(30)

    def close(self):
        self.driver.quit()

    def open(self, url):
        self.driver.get(url)

    @property
    def url(self):
        return self.driver.current_url

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def wait(self, condition, what, seconds=15):
        WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: condition(), f"{what}; at {self.url}:\n{self.text()[:800]}")

    def message(self):
        """What the page says of what went wrong."""
        return " ".join(element.text.strip() for element in self.driver.find_elements(By.CSS_SELECTOR, "[role=alert]"))

    def fill_in(self, **fields):
        for name, value in fields.items():
            element = self.driver.find_element(By.NAME, name)
            element.clear()
            element.send_keys(value)

    def submit(self):
        """Presses the button of the page's form, as a person does."""
        self._leave_by(self.driver.find_element(By.CSS_SELECTOR, "form button[type=submit], form button:not([type])"))

    def press(self, label):
        """Presses the button, or follows the link, that is called so."""
        for element in self.driver.find_elements(By.CSS_SELECTOR, "button, a, input[type=submit]"):
            if (element.text or element.get_attribute("value") or "").strip().lower() == label.lower():
                self._leave_by(element)
                return
        raise LookupError(f"nothing called {label!r} at {self.url}:\n{self.text()[:800]}")

    def _leave_by(self, element):
        page = self.driver.find_element(By.TAG_NAME, "html")
        element.click()
        WebDriverWait(self.driver, 15, poll_frequency=0.02).until(lambda _: left(page), f"the click leads nowhere; at {self.url}")

    def json(self):
        """The page itself, where it is JSON."""
        return json.loads(self.driver.find_element(By.TAG_NAME, "pre").text)

    def fetch(self, path, **options):
        """What a script of the page gets: status, headers that scripts may see, text."""
        return self.driver.execute_async_script(
            """const [path, options, done] = arguments;
            fetch(path, options).then(async answer => done({status: answer.status, redirected: answer.redirected, url: answer.url,
              headers: Object.fromEntries(answer.headers), text: await answer.text()}), error => done({error: String(error)}))""",
            path,
            options,
        )

    def cookie(self, name):
        return next((c for c in self.driver.get_cookies() if c["name"] == name), None)

    def cookies_seen_by_scripts(self):
        return self.driver.execute_script("return document.cookie")

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))
