"""What readers do on the page: approve, send a signal, and rerun a run with other data."""

import json
import re

from playwright.sync_api import Dialog, Page, expect

from tests.browser.conftest import Visit
from tests.browser.shop import Shop
from tests.browser.watching import Watch


def test_a_second_person_approves(visit: Visit, shop: Shop, watch: Watch) -> None:
    """One person looks at the run, another one finds it under Waiting, enters a value and approves: the run ends."""
    watch.expect("400")
    run_id = shop.waiting("refund", {}, "ask", id="refund-1")
    first, second = visit(shop.url), visit(shop.url)
    first.goto(f"/ui/runs/{run_id}")
    expect(first.locator(".why")).to_contain_text("approval")
    second.goto("/ui/runs")
    second.get_by_role("navigation", name="Pages").get_by_role("link", name="Waiting").click()
    asked = second.get_by_role("article", name=re.compile("Refund refund-1"))
    asked.get_by_text("Decide", exact=True).click()
    form = asked.get_by_role("form")
    form.get_by_label("Your name").fill("Mia")
    form.get_by_label(re.compile("amount", re.IGNORECASE)).fill("-3")
    form.get_by_role("button", name="Approve").click()
    # What is wrong is shown beside its field, which keeps what was entered.
    field = second.get_by_label(re.compile("amount", re.IGNORECASE))
    expect(field).to_have_value("-3")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("12.5")
    second.get_by_role("button", name="Approve").click()
    expect(second).to_have_url(re.compile("/ui/waiting"))
    assert shop.until(run_id, "completed")["output"] == [True, "Mia", 12.5]
    first.reload()
    expect(first.locator(".heading .state")).to_have_text("completed")


def test_a_signal_is_sent_from_the_run_that_waits(page: Page, shop: Shop) -> None:
    """A reader opens the form of the signal and sends data; the run gets it and ends."""
    caller = shop.waiting("call", {"id": "signalled"}, "answer")
    called = shop.run_of_caller(caller)
    page.goto(f"/ui/runs/{called}")
    page.get_by_text("Send the signal go/signalled").click()
    page.get_by_label("Data (JSON)").fill('{"said": "yes"}')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("status").first).to_have_text("The signal was delivered.")
    assert shop.until(called, "completed")["output"] == {"said": "yes"}


def test_a_failed_run_is_rerun_with_other_data(page: Page, shop: Shop, watch: Watch) -> None:
    """A reader edits the data of a run whose step failed; the new run passes that step, and both are linked."""
    watch.expect("400")
    run_id = shop.started("order", {"id": "edited", "total": -7}, "failed")
    page.goto(f"/ui/runs/{run_id}?step={shop.show(run_id)['steps'][0]['step']}")
    page.locator(".details").get_by_role("link", name=re.compile("Rerun from")).click()
    field = page.get_by_label(re.compile("Data of the event"))
    data = json.loads(field.input_value())
    field.fill("{")
    page.get_by_role("button", name=re.compile("^Rerun")).click()
    field = page.get_by_label(re.compile("Data of the event"))
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill(json.dumps({**data, "total": 7}))
    page.get_by_role("button", name=re.compile("^Rerun")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("fulfil-order")
    expect(page).not_to_have_url(re.compile(run_id))
    rerun = page.url.partition("?")[0].rpartition("/")[2]
    shop.reached(rerun, "parcel")
    page.reload()
    expect(page.locator(".timeline")).to_contain_text("receipt for 7")
    page.get_by_role("link", name=re.compile(run_id[-6:])).first.click()
    expect(page).to_have_url(re.compile(run_id))


def test_a_failed_step_is_rerun_with_other_results(page: Page, shop: Shop) -> None:
    """A reader reruns a run from its failed step, with other data and another result of the step before."""
    run_id = shop.started("invoice", {"customer": "Mia", "limit": 50}, "failed")
    page.goto(f"/ui/runs/{run_id}")
    page.get_by_role("link", name="post", exact=True).click()
    page.get_by_role("link", name="Rerun from step post").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Rerun from step post")
    field = page.get_by_label(re.compile("Data of the event"))
    field.fill(field.input_value().replace("50", "75").replace("Mia", "Noa"))
    page.get_by_label("Reason", exact=True).fill("the price was wrong")
    page.get_by_role("button", name="edit the result of look up").click()
    page.get_by_label("Result of step look up").fill("70")
    # A reader who leaves the form is asked first.
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.get_by_role("link", name="Back to the run").click()
    assert asked == ["beforeunload"]
    page.get_by_role("button", name="Rerun from step post").click()
    expect(page).not_to_have_url(re.compile(run_id))
    rerun = page.url.partition("?")[0].rpartition("/")[2]
    assert shop.until(rerun, "completed")["output"] == "posted 70 to Noa"
    page.goto(f"/ui/runs/{rerun}")
    # The step before was not run again: its edited result was copied.
    expect(page.locator(".timeline")).to_contain_text("70")
    expect(page.locator(".facts").first).to_contain_text("from step post")
    expect(page.locator(".facts").first).to_contain_text("the price was wrong")
    expect(page.locator(".facts").first).to_contain_text('data.customer: "Mia" → "Noa"')
