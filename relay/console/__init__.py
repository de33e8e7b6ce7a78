"""The console in the browser: the frame that all its pages stand in, and the pages of a member.

It may import what stands below it, `api` too; of a running relay it has what `relay.edge` gives, and nothing more: it
reads views and log, and whatever changes something is asked of the core by `Visit.decide`, as the API asks. It must
never decide, keep anything in memory for a visitor, or read what the API and the commands read by code of its own: a
page renders what the same functions answer. The operator's door (`relay.operator_console`) is made of the same frame.

**How to add a page.** Write a module here, with its functions and templates:

    @page("GET", "/suppressions", "suppressions.html", "Suppressions")
    async def suppressions(visit: Visit) -> Context:
        with visit.store.read() as view: ...
        return {"rows": rows, "next": cursor}

    @page("POST", "/suppressions", "suppressions.html", "Suppressions", again=suppressions)
    async def suppress(visit: Visit) -> Context | See:
        form = await visit.form()
        await visit.decide("suppress", Suppress(address=address_in("address", form.one("address"))))
        return See("/suppressions", "suppressed")         # 303 to that page, which then says `says["suppressed"]`

    PAGES = (suppressions, suppress)

and name it in `relay.console.member_pages`. What a page has:

- *Whose it is*: `visit.did`, and never what the request says. `visit.asker` is who asks: a Principal, or an Operator
  (whose console shows the same pages of each member, below `/members/DID`; where the two have decisions of different
  names, a page asks by `visit.by_operator`).
- *Paths* are below the page's own base: `visit.path("/messages/448")`, and in templates `{{ base }}/messages/448`. What
  is not of this relay's own making goes through `|urlencode`.
- *Refusals* are raised. Of a GET, and where nothing else is said, the frame shows the error page, with the refusal's
  status. Of a POST that names a page in `again`, the frame shows that page with the refusal on top of it.
- *Said*: `visit.say("...")` puts a line on top of the page that this request itself answers with (a new key, which is
  shown once, is a POST that renders). `See(path, word)` answers 303: then the line is `says[word]` of the page that is
  seen, because a line that stood in the path could be written there by anybody. 303 leads to pages of the console only.
- *Forms*: `<form method="post" action="...">{{ form_token() }} ... </form>`. The frame has checked the token and where
  the form came from before the function is called. Bodies are 64 KiB at most, in the time that a request has.
- *Templates* extend `layout.html` and fill `{% block main %}`. Everything is escaped, and every text is shown printable
  (`relay.console.rendering`): nobody's subject turns a page around or hides in it. Filters: `when` (relative time, the
  exact one beside it for who asks), `moment` (the exact time, and the relative one), `size`, `number`, `short_did`,
  `percent`. Macros, by `{% import "parts.html" as ui with context %}`: `ui.table`, `ui.status`, `ui.pager`, `ui.facts`,
  `ui.copy`, `ui.empty`, `ui.hint`. No `style=`, no script: the one script (`static/console.js`) does what it finds
  named in `data-` attributes, and every page works without it.
- *Lists* go by a cursor: the argument `after`, which the page's `next` is.

Every answer is `no-store`, with the Content-Security-Policy of `relay.console.frame`.
"""
