"""A bucket over real connections, and what may go wrong between it and whoever asks: the storage proxy."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fake_s3 import Answer, Asked, refusal

NAME = "b"
RANGE = re.compile(r"bytes=(\d+)-(\d+)")

Reply = Callable[["Bucket", str, Asked], Answer | None]
"""Given the key or the listed prefix; None where the bucket answers itself."""


@dataclass
class Fault:
    """One thing that the proxy does instead of passing a request on."""

    call: str
    """``GET``, ``PUT`` or ``LIST``."""

    keys: str
    """Regular expression of the keys, or listed prefixes, that it is about."""

    reply: Reply
    """What happens."""

    times: int = 10**9
    """How often."""

    num_done: int = 0


@dataclass
class Bucket:
    """Objects, and faults on the way to them."""

    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        """Answer one request as S3 would, unless a fault comes first."""
        parts = urlsplit(asked.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        key = unquote(parts.path).removeprefix(f"/{NAME}").removeprefix("/")
        call = "LIST" if "list-type" in query else asked.method
        if call == "LIST":
            key = query.get("prefix", [""])[0]
        for fault in self.faults:
            if fault.call == call and fault.num_done < fault.times and re.search(fault.keys, key):
                fault.num_done += 1
                reply = fault.reply(self, key, asked)
                if reply is not None:
                    return reply
        return {"LIST": self._list, "GET": self._get, "PUT": self._put}[call](key, asked)

    def _list(self, prefix: str, _asked: Asked) -> Answer:
        return Answer(body="".join(self.listing(prefix)).encode(), headers={"Content-Type": "application/xml"})

    def listing(self, prefix: str) -> Iterator[str]:
        """Yield the XML of what is directly under a prefix."""
        yield '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        names = [key.removeprefix(prefix) for key in sorted(self.objects) if key.startswith(prefix)]
        for name in names:
            if "/" not in name:
                content = self.objects[prefix + name]
                key = escape(prefix + name)
                yield (
                    f"<Contents><Key>{key}</Key><Size>{len(content)}</Size><ETag>{tag(content)}</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        for folder in dict.fromkeys(name.split("/")[0] for name in names if "/" in name):
            yield f"<CommonPrefixes><Prefix>{escape(prefix + folder)}/</Prefix></CommonPrefixes>"
        yield "</ListBucketResult>"

    def _get(self, key: str, asked: Asked) -> Answer:
        content = self.objects.get(key)
        if content is None:
            return refusal(404, "NoSuchKey")
        if asked.headers.get("if-match", tag(content)) != tag(content):
            return refusal(412, "PreconditionFailed")
        return part(content, asked)

    def _put(self, key: str, asked: Asked) -> Answer:
        if "if-none-match" in asked.headers and key in self.objects:
            return refusal(412, "PreconditionFailed")
        self.objects[key] = asked.body
        return Answer(body=b"", headers={"ETag": tag(asked.body)})


def tag(content: bytes) -> str:
    """Return the entity tag of an object."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def part(content: bytes, asked: Asked, *, etag: str = "") -> Answer:
    """Return what of an object was asked for."""
    headers = {"ETag": etag or tag(content)}
    wanted = RANGE.fullmatch(asked.headers.get("range", ""))
    if wanted is None:
        return Answer(body=content, headers=headers)
    start, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
    if start >= len(content):
        return refusal(416, "InvalidRange")
    return Answer(206, content[start : last + 1], {**headers, "Content-Range": f"bytes {start}-{last}/{len(content)}"})


# ---------------------------------------------------------------------------------------------- what happens


def refuse(status: int, code: str) -> Reply:
    """Answer with an error."""
    return lambda _bucket, _key, _asked: refusal(status, code)


def hang_up(_bucket: Bucket, _key: str, _asked: Asked) -> Answer:
    """Close the connection before any answer."""
    return Answer(cut=0)


def hang_up_after(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Do what was asked, and close the connection before the answer."""
    bucket._put(key, asked)
    return Answer(cut=0)


def break_off(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Close the connection in the middle of the body."""
    whole = bucket._get(key, asked)
    return whole._replace(cut=max(len(whole.body) // 2, 1))


def stall(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Say nothing for longer than anyone waits."""
    return bucket._get(key, asked)._replace(after_s=0.4)


def lose(_bucket: Bucket, _key: str, asked: Asked) -> Answer:
    """Answer that an object is stored, and store nothing."""
    return Answer(body=b"", headers={"ETag": tag(asked.body)})


def halve(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Answer that an object is stored, and store its first half."""
    bucket.objects[key] = asked.body[: len(asked.body) // 2]
    return lose(bucket, key, asked)


def rename(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Store an object, and answer with another entity tag than it has from then on."""
    return bucket._put(key, asked)._replace(headers={"ETag": '"another"'})


def whole(bucket: Bucket, key: str, _asked: Asked) -> Answer:
    """Ignore the range that was asked for."""
    return Answer(body=bucket.objects[key], headers={"ETag": tag(bucket.objects[key])})


def shifted(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Answer with another range, and say so."""
    start, last = map(int, RANGE.fullmatch(asked.headers["range"]).groups())  # type: ignore[union-attr]
    content = bucket.objects[key]
    body = content[start + 1 : last + 2]
    about = f"bytes {start + 1}-{start + len(body)}/{len(content)}"
    return Answer(206, body, {"ETag": tag(content), "Content-Range": about})


def lying(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Answer with other bytes under the range that was asked for."""
    found = bucket._get(key, asked)
    return found._replace(body=bytes(255 - byte for byte in found.body))


def longer(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Answer with more bytes than were asked for."""
    found = bucket._get(key, asked)
    return found._replace(body=found.body + bytes(5_000))


def other_tag(bucket: Bucket, key: str, asked: Asked) -> Answer:
    """Ignore the entity tag that was asked for, and have another one."""
    return part(bucket.objects[key], asked, etag='"another"')


def page(_bucket: Bucket, _key: str, _asked: Asked) -> Answer:
    """Answer with a web page, as a captive portal does."""
    return Answer(body=b"<html><body>Please sign in.</body></html>", headers={"Content-Type": "text/html"})


def nothing(_bucket: Bucket, _key: str, _asked: Asked) -> Answer:
    """List nothing."""
    return Answer(body=b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>')


def without(name: str) -> Reply:
    """List everything but one object."""

    def reply(bucket: Bucket, prefix: str, _asked: Asked) -> Answer:
        kept = Bucket({key: content for key, content in bucket.objects.items() if not key.endswith(name)})
        return Answer(body="".join(kept.listing(prefix)).encode(), headers={"Content-Type": "application/xml"})

    return reply
