"""A real browser, which judges each page it stands on."""

import os
import re

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait
from webdriver_pages import is_of_another_page, left

PATIENCE = 30


class Browser:
    def __init__(self):
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=760,900",
        ):  # fmt: skip
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(PATIENCE)
        self.axe = Axe()

    def close(self):
        self.driver.quit()

    def open(self, url):
        self.driver.get(url)

    @property
    def url(self):
        return self.driver.current_url

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def message(self):
        return " ".join(one.text.strip() for one in self.driver.find_elements(By.CSS_SELECTOR, "[role=alert]") if one.text)

    def wait(self, condition, what):
        try:
            WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; at {self.url}:\n{self.text()[:800]}") from None

    def fill_in(self, **fields):
        for name, value in fields.items():
            element = self.driver.find_element(By.NAME, name)
            element.clear()
            element.send_keys(value)

    def press(self, label):
        """Presses the visible button, or follows the link, that is called so, and waits for the next page."""
        page = self.driver.find_element(By.TAG_NAME, "html")
        self.touch(label)
        self.wait(lambda: left(page), f"{label} leads nowhere")
        self.settled()

    def settled(self):
        """The next page is there, whole: what is found on it stays."""

        def whole():
            try:
                return self.driver.execute_script("return document.readyState") == "complete"
            except WebDriverException as error:
                if not is_of_another_page(error):
                    raise
                return False

        self.wait(whole, "a whole page")

    def touch(self, label):
        for _ in range(3):
            try:
                for element in self.driver.find_elements(By.CSS_SELECTOR, "button, a, summary"):
                    if label in (element.text.strip(), element.get_attribute("aria-label")) and element.is_displayed():
                        return element.click()
                break
            except WebDriverException as error:
                if not is_of_another_page(error):
                    raise
                # The next page came while this one was looked through.
                self.settled()
        raise LookupError(f"nothing called {label!r} at {self.url}:\n{self.text()[:800]}")

    def authenticator(self):
        """A virtual one that knows its user."""
        options = VirtualAuthenticatorOptions()
        options.protocol = VirtualAuthenticatorOptions.Protocol.CTAP2
        options.transport = VirtualAuthenticatorOptions.Transport.INTERNAL
        options.has_resident_key = options.has_user_verification = options.is_user_verified = True
        self.driver.add_virtual_authenticator(options)

    def judge(self, picture=None):
        """Accessibility by axe, in light and dark, and a picture for the documentation."""
        found = []
        for scheme in ("dark", "light"):
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            # Colours are all that differs.
            result = self.axe.run(self.driver, options={"runOnly": ["color-contrast"]} if scheme == "dark" else None)
            for violation in result["violations"]:
                where = [node["target"] for node in violation["nodes"]]
                found.append(f"{scheme}: {violation['id']}: {violation['help']} {where}")
            shown = "dark" if picture and picture.endswith("-dark") else "light"
            if picture and scheme == shown and os.environ.get("CLOAKROOM_SCREENSHOTS"):
                self.picture(picture)
        assert not found, f"{self.url}: {found}"

    def picture(self, name):
        folder = os.environ["CLOAKROOM_SCREENSHOTS"]
        os.makedirs(folder, exist_ok=True)
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        size = self.driver.get_window_size()
        self.driver.set_window_size(size["width"], min(height + 160, 1600))
        self.driver.save_screenshot(os.path.join(folder, f"{name}.png"))
        self.driver.set_window_size(size["width"], size["height"])

    def phone(self, on):
        if on:
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 720, "deviceScaleFactor": 1, "mobile": True})
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def fits(self):
        """Nothing sticks out at the side."""
        return self.driver.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    def complaints(self):
        """What the browser refused to do, such as what the content security policy forbids."""
        return [entry["message"] for entry in self.driver.get_log("browser") if re.search("Content Security Policy|Refused", entry["message"])]
