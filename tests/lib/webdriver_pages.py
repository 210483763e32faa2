"""What the browser's driver says of a page that the browser has left."""

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException


def left(page):
    """Whether the browser has gone on from the page of this element."""
    try:
        page.is_enabled()
    except WebDriverException as error:
        if not is_of_another_page(error):
            raise
        return True
    return False


def is_of_another_page(error):
    """The driver says so in more than one way."""
    return isinstance(error, StaleElementReferenceException) or "does not belong to the document" in str(error)
