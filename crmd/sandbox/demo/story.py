"""What happens in the demo, step by step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp

from crmd.errors import CrmdError
from crmd.sandbox.demo.crm import Crm, until
from crmd.sandbox.demo.folder import DemoFolder
from crmd.sandbox.settings import Addresses

CONTACTS = 30
AT_ONCE = 20
"""What the queue `message` starts in any minute, as it is shipped."""
WAIT_SECONDS = 120.0
FLOW = "questions"
ASKED, THANKED = "Do you have tulips today?", "Thank you!"


class Story:
    """Import, flow, campaign, a contact who writes, export, report."""

    def __init__(self, crm: Crm, sandbox: Addresses, folder: DemoFolder, say: Callable[[str], None]) -> None:
        self._crm = crm
        self._sandbox = sandbox
        self._folder = folder
        self._say = say
        self._campaign = 0

    async def tell(self) -> None:
        """Everything, until the last message of the campaign is sent. Raises CrmdError where something fails."""
        await self.import_contacts()
        await self.store_flow()
        await self.send_campaign()
        await self.let_a_contact_write()
        await self.export_contacts()
        await self.report()
        await self.wait_for_the_rest()

    async def import_contacts(self) -> None:
        """Uploads the shipped file and reads it into the database."""
        self._say("\n1 · Import contacts.csv: 30 contacts, and two invalid rows")
        file_id = await self._crm.upload("contacts.csv")
        done = await self._run("import", "import_contacts", f"file={file_id}", "default_region=DE")
        if done["created"] != CONTACTS:
            raise CrmdError(f"the import made {done['created']} contacts, not {CONTACTS}; see {self._folder.log}")
        self._say(f"    {done['created']} contacts are new, {done['rejected']} rows rejected:")
        await self._crm.download(done["report"], "rejected.csv")
        for line in self._folder.read("rejected.csv").decode("utf-8-sig").splitlines():
            self._say(f"    {line}")

    async def store_flow(self) -> None:
        """Stores the flow that messages of contacts start."""
        self._say("\n2 · A flow for contacts who write")
        await self._crm.command("flows", "put", "flow.json", "--name", FLOW)

    async def send_campaign(self) -> None:
        """Starts the campaign, and waits until the first messages are accepted."""
        self._say("\n3 · A campaign to all contacts with the tag newsletter")
        done = await self._run("campaign", "run_campaign", data="campaign.json")
        self._campaign = done["campaign"]
        self._say(f"    campaign {self._campaign}: {done['queued']} messages queued")
        await self._until_accepted(AT_ONCE)
        self._say(f"    {AT_ONCE} are accepted; {CONTACTS - AT_ONCE} wait, as the queue's limit is 20 a minute")

    async def let_a_contact_write(self) -> None:
        """A contact asks, and thanks: the flow answers, mails, and tells the shop."""
        self._say("\n4 · A contact writes; the flow asks the model, mails, and posts to the shop")
        await self._write(ASKED)
        for kind, what in (("ai", "the model is asked"), ("webhook", "the shop is told"), ("mail", "mail is out")):
            await self._until(partial(self._has_arrived, kind), what)
            self._say(f"    {what}")
        await self._until(partial(self._run_is, "waiting_for_reply"), "the flow waits for a reply")
        await self._write(THANKED)
        await self._until(partial(self._run_is, "done"), "the flow is done")
        self._say("    the answers wait for the same limit as the campaign")

    async def export_contacts(self) -> None:
        """Writes all contacts to a workbook."""
        self._say("\n5 · Export")
        done = await self._run("export", "export_contacts", "format=xlsx")
        await self._crm.download(done["file"], "contacts.xlsx")
        self._say(f"    {done['rows']} rows are in {self._folder.path / 'contacts.xlsx'}")

    async def report(self) -> None:
        """The report of this hour."""
        self._say("\n6 · The report")
        self._say(await self._crm.show("report", "--period", "hour", "--last", "1"))

    async def wait_for_the_rest(self) -> None:
        """Waits until the limit has let the rest through, and reports again."""
        self._say(f"\n7 · The other {CONTACTS - AT_ONCE}, when the minute is over")
        await self._until_accepted(CONTACTS)
        await self._until(self._all_told, "each message was delivered or failed")
        self._say(f"    all {CONTACTS} are accepted, and each was delivered or failed")
        self._say(await self._crm.show("report", "--period", "hour", "--last", "1"))

    async def _run(self, queue: str, job: str, *pairs: str, data: str | None = None) -> dict[str, Any]:
        given = ["-d", f"@{data}"] if data else list(pairs)
        view = await self._crm.command("enqueue", queue, job, *given, "--wait", "60s")
        return dict(view["result"])

    async def _until_accepted(self, count: int) -> None:
        async def enough() -> bool:
            sent = await self._arrived("message")
            return len({entry["to"] for entry in sent if entry["type"] == "template" and entry["wamid"]}) >= count

        await self._until(enough, f"{count} messages are accepted")

    async def _until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await until(look)
        except TimeoutError:
            raise CrmdError(f"not within {WAIT_SECONDS:g} s: {what}; see {self._folder.log}") from None

    async def _arrived(self, kind: str) -> list[dict[str, Any]]:
        found: dict[str, list[dict[str, Any]]] = await self._call("GET", f"/_sandbox/journal?kind={kind}")
        return found["entries"]

    async def _all_told(self) -> bool:
        """Whether each message was delivered or failed, by webhooks that the daemon took."""
        sent = [entry for entry in await self._arrived("message") if entry["wamid"]]
        return all({"delivered", "failed"} & {step["status"] for step in entry["history"]} for entry in sent)

    async def _has_arrived(self, kind: str) -> bool:
        return bool(await self._arrived(kind))

    async def _run_is(self, state: str) -> bool:
        found = await self._crm.get(f"/api/v1/flows/{FLOW}/runs?state={state}")
        return bool(found["runs"])

    async def _write(self, text: str) -> None:
        [first, *_] = await self._arrived("message")
        self._say(f"    {first['to']} writes: {text}")
        await self._call("POST", "/_sandbox/inbound", {"from": first["to"], "text": text})

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._sandbox.url + path, json=body) as response,
        ):
            return json.loads(await response.read())
