"""What a send may say: `relay.requests.request_of`, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.refusals import Refusal
from relay.requests import SendRequest, parse_send, request_of
from relay.send_body import SendBody

MAIL = {"from": "you@yourdomain.com", "to": "a@example.com", "subject": "Hello", "text": "Hi"}


def asked(**fields: Any) -> SendRequest:
    """Of the transactional class, where they do not say otherwise."""
    return parse_send(json.dumps({**MAIL, **fields}).encode(), "transactional")


def addresses(request: SendRequest) -> list[str]:
    return [mailbox.address for _, mailbox in request.recipients]


def test_each_address_is_a_recipient_once_and_stands_where_it_comes_first() -> None:
    request = asked(
        to=["Ann <a@example.com>", "b@example.com", "a@EXAMPLE.com"],
        cc=["b@example.com", "Cee <c@example.com>"],
        bcc=["c@example.com", "d@example.com", "d@example.com"],
    )
    assert addresses(request) == [f"{name}@example.com" for name in "abcd"]
    assert request.recipients[0][0] == "Ann <a@example.com>"
    # Who stands in Bcc alone is hidden; who is shown anyway is not.
    assert request.hidden == {"d@example.com"}


def test_a_conversation_shows_to_and_cc_as_they_are_written() -> None:
    content = asked(to=["Ann <a@example.com>", "b@example.com"], cc="Cee <c@example.com>").content
    assert content.to_shown == [("Ann", "a@example.com"), ("", "b@example.com")]
    assert content.cc == [("Cee", "c@example.com")]


@pytest.mark.parametrize("absent", [None, "", []])
def test_without_cc_and_bcc_there_is_no_conversation(absent: Any) -> None:
    request = asked(to=["a@example.com", "b@example.com"], cc=absent, bcc=absent)
    assert (request.conversation, request.content.to_shown, request.hidden) == (False, [], frozenset())
    assert asked(cc=absent, bcc="b@example.com").conversation
    assert asked(cc="b@example.com", bcc=absent).conversation


def test_several_recipients_are_a_conversation_where_the_door_says_so() -> None:
    def of(to: str | list[str]) -> SendRequest:
        body = SendBody(sender="you@yourdomain.com", to=to, subject="Hello", text="Hi")
        return request_of(body, "transactional", recipients_see_each_other=True)

    assert not of(["a@example.com", "a@example.com"]).conversation
    request = of(["a@example.com", "b@example.com"])
    assert (request.conversation, len(request.content.to_shown)) == (True, 2)


def test_a_list_does_not_show_its_readers_to_each_other() -> None:
    alone = {"to": "a@example.com", "bcc": ["b@example.com", "c@example.com"], "category": "bulk"}
    assert asked(**alone).hidden == {"b@example.com", "c@example.com"}
    assert asked(to="a@example.com", cc="a@example.com", category="bulk").conversation
    for fields, field in (
        ({"cc": "b@example.com"}, "cc"),
        ({"to": ["a@example.com", "b@example.com"], "bcc": "c@example.com"}, "to"),
    ):
        assert asked(**fields).conversation
        assert refused(**fields, category="broadcast").startswith(f"{field}: a conversation shows its 2 ")


def test_fifty_recipients_are_counted_as_they_are_written() -> None:
    names = [f"a{number}@example.com" for number in range(20)]
    assert len(addresses(asked(to=names, cc=names, bcc=names[:10]))) == 20
    assert refused(to=names, cc=names, bcc=names[:11]).startswith("to: with cc and bcc has 51 recipients")
    assert refused(to=names * 3).startswith("to: has 60 recipients")


def test_reply_to_is_one_or_up_to_ten() -> None:
    assert asked(replyTo="Ann <a@example.com>").content.reply_to == [("Ann", "a@example.com")]
    ten = [f"a{number}@example.com" for number in range(10)]
    assert asked(replyTo=ten).content.reply_to == [("", address) for address in ten]
    for absent in (None, "", []):
        assert asked(replyTo=absent).content.reply_to == []
    assert refused(replyTo=[*ten, "b@example.com"]).startswith("replyTo: has 11 addresses")


def test_tag_and_metadata_as_large_as_they_may_be() -> None:
    most = {f"{number}{'n' * 63}": "\u20ac" * 256 for number in range(10)}
    request = asked(tag="A-z_0." + "x" * 58, metadata=most)
    assert (request.tag, request.metadata) == ("A-z_0." + "x" * 58, most)
    request = asked(tag="", metadata={})
    assert (request.tag, request.metadata) == (None, None)


@pytest.mark.parametrize(
    ("sentence", "fields"),
    [
        ("cc[1]: the address has no @", {"cc": ["b@example.com", "nobody"]}),
        ("cc[0]: the address is empty", {"cc": [""]}),
        ("bcc: the domain has only one label", {"bcc": "a@localhost"}),
        ("bcc: expected a string or an array or null", {"bcc": 1}),
        ("cc: this looks like several addresses; give each its own", {"cc": "a@example.com, b@example.com"}),
        ("replyTo[1]: the address has no @", {"replyTo": ["b@example.com", "nobody"]}),
        ("cc[0]: the address contains the control", {"cc": ["a@example.com\r\nBcc: b@example.com"]}),
        ("tag: expected 1 to 64", {"tag": "two words"}),
        ("tag: expected 1 to 64", {"tag": "x" * 65}),
        ("tag: expected 1 to 64", {"tag": "r\u00e9sum\u00e9"}),
        ("tag: expected 1 to 64", {"tag": "a\n"}),
        ("tag: expected a string or null", {"tag": ["a"]}),
        ("metadata: has 11 names", {"metadata": {str(number): "" for number in range(11)}}),
        ("metadata.: a name has 1 to 64", {"metadata": {"": "a"}}),
        ("a name has 1 to 64 characters, and this one 65", {"metadata": {"n" * 65: "a"}}),
        ("metadata.order: a value has at most 256 characters", {"metadata": {"order": "x" * 257}}),
        ("metadata.order: expected a string", {"metadata": {"order": 7}}),
        ("tags: there is no such field; write `tag`", {"tags": []}),
        ("ccs: there is no such field; did you mean `cc`?", {"ccs": "a@example.com"}),
        ("meta_data: there is no such field; did you mean `metadata`?", {"meta_data": {}}),
        ("scheduled_at: there is no such field; write `scheduledAt`", {"scheduled_at": "x"}),
        ("template: there are no templates", {"template": {}}),
        (
            "attachments[1].content_typ: there is no such field; did you mean `contentType`?",
            {
                "attachments": [
                    {"filename": "a", "content": ""},
                    {"filename": "a", "content": "", "content_typ": ""},
                ]
            },
        ),
        (
            "attachments[0].x: there is no such field; there are filename, content, contentType, contentId",
            {"attachments": [{"x": 1}]},
        ),
        (
            "attachments[0].path: files are not fetched",
            {"attachments": [{"filename": "a", "path": "https://a"}]},
        ),
        ("attachments[0].content: is required, and missing", {"attachments": [{"filename": "a.txt"}]}),
        ("calendar.methd: there is no such field; did you mean `method`?", {"calendar": {"methd": ""}}),
        ("calendar.content: is required, and missing", {"calendar": {"method": "REQUEST"}}),
        ('headers: Cc is reserved: use the field "cc"', {"headers": {"Cc": "a@example.com"}}),
        ('headers: Bcc is reserved: use the field "bcc"', {"headers": {"Bcc": "a@example.com"}}),
    ],
)
def test_what_is_wrong_is_named(sentence: str, fields: dict[str, Any]) -> None:
    assert sentence in refused(**fields)


def refused(**fields: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        asked(**fields)
    assert refusal.value.code == "INVALID_REQUEST"
    return refusal.value.message
