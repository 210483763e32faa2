"""People at the sign-in pages, in a real browser. Each case begins where the one before left off."""

import sys
import traceback

from browser import Browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from service import Authenticator, Partner, Service

PASSWORD = "purple otters juggle lanterns"


class World:
    def __init__(self):
        self.service = Service()
        self.user = self.service.user("ann", "Ann Example", PASSWORD)
        self.browser = Browser()
        self.app = None
        self.codes = []

    def close(self):
        self.browser.close()
        self.service.stop()

    def at(self, path):
        return self.browser.url.startswith(self.service.url + path)

    def sign_out(self):
        self.browser.open(f"{self.service.url}/account")
        self.browser.press("Sign out here")

    def password(self, password=PASSWORD):
        self.browser.fill_in(username="ann", password=password)
        self.browser.press("Sign in")


def a_wrong_password_is_told_and_the_name_is_kept(world):
    browser = world.browser
    browser.open(world.service.url)
    browser.judge("sign-in")
    browser.judge("sign-in-dark")
    world.password("not the password")
    assert "not right" in browser.message()
    assert browser.find("#username").get_attribute("value") == "ann"
    assert browser.find("#password").get_attribute("aria-describedby") == "problem"
    browser.judge()


def the_keyboard_is_enough(world):
    browser = world.browser
    assert browser.driver.switch_to.active_element.get_attribute("id") == "password", "where one goes on"
    ActionChains(browser.driver).send_keys(PASSWORD, Keys.ENTER).perform()
    browser.wait(lambda: world.at("/account"), "signed in")
    browser.judge()


def every_page_fits_a_phone(world):
    browser = world.browser
    browser.phone(True)
    for path in ("/account", "/account/authenticator", "/account/password", "/account/passkeys", "/signed-out"):
        browser.open(world.service.url + path)
        assert browser.fits(), path
    browser.phone(False)


def an_authenticator_app_is_set_up(world):
    browser = world.browser
    browser.open(f"{world.service.url}/account/authenticator")
    browser.judge("authenticator")
    browser.fill_in(code="000000")
    browser.press("Confirm")
    assert "does not fit" in browser.message()
    browser.judge()
    browser.touch("I cannot scan it")
    world.app = Authenticator(browser.find("code.key").text)
    browser.fill_in(code=world.app.code())
    browser.press("Confirm")
    world.codes = [code.text for code in browser.driver.find_elements("css selector", ".codes code")]
    assert len(set(world.codes)) == 10, world.codes
    browser.judge()
    browser.press("I have kept them")
    assert world.at("/account") and "10 left" in browser.text()


def the_second_factor_is_asked_for(world):
    browser = world.browser
    world.sign_out()
    assert "signed out" in browser.text()
    browser.judge()
    browser.press("Sign in again")
    world.password()
    browser.judge("second-factor")
    browser.fill_in(code="000000")
    browser.press("Continue")
    assert "not right" in browser.message()
    browser.judge()
    browser.fill_in(code=world.app.code())
    browser.press("Continue")
    assert world.at("/account") and "with two factors" in browser.text()


def a_recovery_code_helps_once(world):
    browser = world.browser
    for attempt in ("first", "again"):
        world.sign_out()
        browser.press("Sign in again")
        world.password()
        browser.touch("I do not have my device")
        browser.fill_in(recovery_code=world.codes[0])
        browser.press("Use recovery code")
        if attempt == "again":
            assert "used before" in browser.message()
            browser.judge()
            browser.fill_in(recovery_code=world.codes[1])
            browser.press("Use recovery code")
    assert "8 left" in browser.text()


def a_passkey_is_added(world):
    browser = world.browser
    browser.authenticator()
    browser.open(f"{world.service.url}/account/passkeys")
    browser.judge()
    browser.fill_in(name="Work laptop")
    browser.press("Add a passkey")
    assert world.at("/account") and "Work laptop" in browser.text(), browser.text()
    browser.open(f"{world.service.url}/account/passkeys")
    browser.touch("Add a passkey")
    browser.wait(lambda: "already" in browser.message(), "one passkey for one device")
    browser.judge()


def a_passkey_signs_in_without_name_or_password(world):
    browser = world.browser
    world.sign_out()
    browser.press("Sign in again")
    browser.press("Sign in with a passkey")
    assert world.at("/account") and "with two factors" in browser.text(), browser.text()


def a_passkey_does_nothing_for_whoever_cannot_unlock_the_device(world):
    browser = world.browser
    world.sign_out()
    browser.press("Sign in again")
    browser.driver.set_user_verified(False)
    browser.touch("Sign in with a passkey")
    browser.wait(lambda: browser.message(), "a message")
    assert world.at("/sign-in")
    browser.driver.set_user_verified(True)


def a_passkey_is_a_second_factor_too(world):
    browser = world.browser
    world.password()
    browser.press("Use a passkey")
    assert world.at("/account") and "with two factors" in browser.text(), browser.text()
    browser.judge("account")


def a_third_party_is_consented_to_and_disconnected(world):
    browser = world.browser
    partner = Partner(world.service)
    browser.open(partner.address(acr_values="mfa"))
    browser.judge("consent")
    for words in ("Partner Analytics", "See and change your orders", "See your email address"):
        assert words in browser.text(), browser.text()
    browser.press("Allow")
    claims = partner.claims()
    assert claims["acr"] == "mfa" and "mfa" in claims["amr"], claims
    browser.open(f"{world.service.url}/account")
    browser.judge()
    browser.press("Disconnect Partner Analytics")
    assert "no access any more" in browser.text() and "Partner Analytics" not in browser.text()


def a_removed_passkey_signs_nobody_in(world):
    browser = world.browser
    browser.open(f"{world.service.url}/account/passkeys")
    browser.press("Remove Work laptop")
    world.sign_out()
    browser.press("Sign in again")
    browser.press("Sign in with a passkey")
    assert world.at("/sign-in") and browser.message(), browser.text()
    browser.judge()


def a_link_sets_a_new_password(world):
    browser = world.browser
    browser.open(world.service.admin("POST", f"/users/{world.user}/password-reset", {})["url"])
    assert "token" not in browser.url
    browser.judge()
    browser.fill_in(new_password="annexample2026", again="annexample2026")
    browser.press("Set password")
    assert "easy to guess" in browser.message()
    browser.judge()
    browser.fill_in(new_password="seven quiet harbours", again="seven quiet harbours")
    browser.press("Set password")
    world.password("seven quiet harbours")
    assert world.at("/second-factor")


def an_error_has_an_id_to_quote(world):
    browser = world.browser
    browser.open(f"{world.service.url}/sign-in?flow=gone")
    browser.judge()
    reference = browser.find("code").text
    assert reference in world.service.logged()


def another_provider_has_a_button_and_is_missed_by_name(world):
    # Nothing answers there.
    provider = {"id": "corp", "name": "Example Corp", "issuer": "http://127.0.0.1:1", "client_id": "cloakroom"}
    service, browser = Service(providers=[provider, {**provider, "id": "partner", "name": "Partner", "issuer": "http://127.0.0.1:2"}]), Browser()
    try:
        service.user("ann", "Ann Example", PASSWORD)
        browser.open(service.url)
        browser.judge("sign-in-providers")
        browser.driver.find_element("link text", "Continue with Example Corp").click()
        browser.wait(lambda: "Example Corp cannot be reached" in browser.text(), "a page that says what is missing")
        browser.judge()
        browser.open(f"{service.url}/account/connections")
        browser.fill_in(username="ann", password=PASSWORD)
        browser.press("Sign in")
        browser.wait(lambda: browser.url == f"{service.url}/account/connections", "signed in")
        browser.judge()
        browser.phone(True)
        assert browser.fits()
    finally:
        browser.close()
        service.stop()


def without_passwords_a_link_and_a_passkey_are_the_way_in(world):
    service, browser = Service(passwords={"enabled": False}), Browser()
    try:
        user = service.admin("POST", "/users", {"username": "ann", "name": "Ann Example"})["id"]
        browser.authenticator()
        browser.open(service.url)
        browser.judge()
        assert not browser.driver.find_elements("css selector", "input[type=password]")
        browser.open(service.admin("POST", f"/users/{user}/passkey-link", {})["url"])
        browser.judge()
        browser.press("Add a passkey")
        browser.wait(lambda: "Your passkey is set up" in browser.text(), "the passkey is set up")
        browser.judge()
        browser.press("Sign in with a passkey")
        browser.wait(lambda: browser.url == f"{service.url}/account", "signed in")
        browser.judge()
        assert "Change password" not in browser.text() and "Set a password" not in browser.text()
        assert browser.complaints() == []
    finally:
        browser.close()
        service.stop()


def the_browser_had_nothing_to_refuse(world):
    assert world.browser.complaints() == []
    assert PASSWORD not in world.service.logged()


def cases():
    """In the order in which they stand here; each takes the world."""
    return [one for name, one in globals().items() if callable(one) and getattr(one, "__code__", None) and one.__code__.co_argcount == 1]


def main():
    world = World()
    passed = failed = 0
    try:
        for case in cases():
            try:
                case(world)
                passed += 1
                print(f"ok   {case.__name__.replace('_', ' ')}")
            except Exception as error:  # Whatever it is, it is this case's failure, and those after it build on it.
                failed += 1
                print(f"FAIL {case.__name__.replace('_', ' ')}: {error}")
                traceback.print_exc()
                print(world.service.logged()[-3000:])
                break
    finally:
        world.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
