"""Places at a URL (``s3://``, ``gs://``, ``hf://`` ...): inputs are fetched, outputs are sent whole.

Palate's files are safe because of renames, locks and memory maps, which object stores do not have. So everything is
read and written in folders of this machine: see ``docs/remote.md``.

* :func:`local` gives the path of a place: that of a copy, if the place is a URL.
* :func:`follow` and :func:`find` do the same for a place that an artefact names.
* :func:`recorded` is how an artefact names a place, wherever its copy happens to lie.
* :class:`Sending` and :func:`takes_urls` send what was made.
"""

from palate.storage.remote.places import find, follow, local, newest, recorded, under
from palate.storage.remote.sending import Sending, takes_urls
from palate.storage.remote.shown import given, url_of
from palate.storage.remote.urls import is_url, without_secrets

__all__ = [
    "Sending",
    "find",
    "follow",
    "given",
    "is_url",
    "local",
    "newest",
    "recorded",
    "takes_urls",
    "under",
    "url_of",
    "without_secrets",
]
