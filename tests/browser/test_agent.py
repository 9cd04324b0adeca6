"""The example of an agent in a browser: live tokens, an approval, and processes that are killed before and after it."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster_shop import ClusterShop
from tests.browser.conftest import HERE, Visit
from tests.browser.shop import Shop
from tests.browser.watching import Watch

ROOT = HERE.parents[1]
MAIL = {"from": "ann@example.com", "text": "Order 7 arrived broken!"}
# The rule that docs/streams.md gives for browsers.
RULE = next(
    block
    for block in re.findall(r"```js\n(.*?)```", (ROOT / "docs/streams.md").read_text("utf-8"), re.DOTALL)
    if "replaced" in block
)
LISTEN = f"""([runId, token]) => {{
  const engine = location.origin;
  const show = (text) => document.documentElement.dataset.said = text;
  {RULE.replace("channel=tokens", "channel=answer")}
}}"""


@pytest.fixture(params=["laptop", "kafka"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Yield what serves the agent: a process on a laptop, or an engine and a worker on Kafka."""
    made = Shop(tmp_path) if request.param == "laptop" else ClusterShop(tmp_path, request.getfixturevalue("bootstrap"))
    shutil.copyfile(ROOT / "examples/agent.py", tmp_path / "agent.py")
    shutil.copyfile(HERE / "agent_app.py", tmp_path / "agent_app.py")
    os.mkfifo(tmp_path / "pipe")
    made.file = "agent_app.py"
    made.start()
    yield made
    made.end()


def listen(page: Page, site: Shop, run_id: str) -> None:
    """Show the text of the agent in a page, as the documents say how."""
    made = httpx.post(f"{site.url}/v1/streams/tokens", json={"runs": [run_id]}).raise_for_status()
    page.evaluate(LISTEN, [run_id, made.json()["token"]])


def test_an_agent_answers_in_the_page_while_processes_are_killed(visit: Visit, site: Shop, watch: Watch) -> None:
    """The page continues by itself after each kill; tokens appear while the model writes them, each once."""
    watch.expect(
        "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"
    )
    run_id = site.waiting("mail.received", MAIL, "agent/approve/refund/refund")
    page = visit(site.url)
    page.goto(f"/ui/runs/{run_id}")
    listen(page, site, run_id)
    expect(page.locator(".why")).to_contain_text("approval")
    site.restart()
    person = visit(site.url)
    person.goto("/ui/waiting")
    asked = person.get_by_role("article", name=re.compile("Call refund"))
    asked.get_by_text("Decide", exact=True).click()
    asked.get_by_role("form").get_by_label("Your name").fill("Mia")
    asked.get_by_role("button", name="Approve").click()
    said = page.locator("html")
    expect(said).to_have_attribute("data-said", "About order 7: we ")
    expect(page.locator(".heading .state")).to_have_text("running")
    site.restart()
    (site.folder / "pipe").write_text("continue")
    expect(page.locator(".heading .state")).to_have_text("completed")
    expect(said).to_have_attribute("data-said", "About order 7: we sent you 40 EUR. ")
    run = site.show(run_id)
    assert run["output"] == "About order 7: we sent you 40 EUR."
    assert [step["attempts"] for step in run["steps"] if step["id"] == "agent/tool/refund/refund"] == [1]
