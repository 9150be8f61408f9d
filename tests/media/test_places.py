"""What is shown of an address opens nothing."""

from pathlib import Path

import pytest

from filmstrip.media import load_image, load_video, read_metadata, read_video
from filmstrip.media.places import is_address, public_address

SECRETS = ("hunter2", "signature", "user")


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("https://example.org/a/b.png", "https://example.org/a/b.png"),
        ("https://example.org:8443/b.png?signature=1", "https://example.org:8443/b.png"),
        ("https://user:hunter2@example.org/b.png", "https://example.org/b.png"),
        ("HTTPS://user@example.org/b.png#signature", "HTTPS://example.org/b.png"),
        ("https://user:hun@ter2@example.org/b.png", "https://example.org/b.png"),
        ("https://user:hunter2/@example.org/b.png", "https://..."),
        ("https://user:hunter2?@example.org/b.png", "https://..."),
        ("https://user:hunter2#@example.org/b.png", "https://..."),
        ("https://user:hunter2@[::1]:80/b.png?signature", "https://[::1]:80/b.png"),
        ("https://user:hunter2@[::1/b.png", "https://..."),
        ("https://example.org/@someone/b.png", "https://example.org/@someone/b.png"),
        ("https://example.org?signature=1", "https://example.org"),
        ("https://example.org/a\nb.png?signature", "https://example.org/a\nb.png"),
        ("ftp://user:hunter2@example.org/b.png", "ftp://example.org/b.png"),
        ("s3://user:hunter2@bucket/b.png", "s3://bucket/b.png"),
        ("https:/user:hunter2@example.org/b.png?signature", "https:/example.org/b.png"),
        ("clips/a?b#c@d.png", "clips/a?b#c@d.png"),
        ("C:/clips/a?b.png", "C:/clips/a?b.png"),
        ("", ""),
    ],
)
def test_what_opens_an_address_is_cut(place, shown):
    assert public_address(place) == shown
    assert is_address(place) == place.lower().startswith(("http://", "https://"))


@pytest.mark.parametrize(
    "place",
    [
        "http://user:hunter2@localhost:1/b.png?signature=1",
        "http://user:hunter2@localhost:x/b.png?signature=1",
        "http://user:hunter2@localhost:99999/b.png?signature=1",
        "http://user:hunter2@[::1/b.png?signature=1",
        "http://user:hunter2@/b.png?signature=1",
        "http://localhost:1/a b.png?signature=1 2",
        "http://localhost:1/a\nb.png?signature=1",
        "http://localhost:1/é.png?signature=ü",
        "http://user:hunter2@lo cal/b.png",
        "http:///?signature",
        "ftp://user:hunter2@localhost/b.png",
        "https:/user:hunter2@localhost/b.png?signature",
        Path("https://user:hunter2@localhost/b.png?signature"),
    ],
    ids=str,
)
@pytest.mark.parametrize("read", [load_image, load_video, read_video, read_metadata])
def test_no_sentence_of_an_error_shows_it(read, place):
    with pytest.raises(ValueError, match=r"\w") as refused:
        read(place)
    assert not any(secret in str(refused.value) for secret in SECRETS), refused.value
