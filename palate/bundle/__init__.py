"""The bundle: one folder with everything that answers, and nothing that runs code; what is deployed and shared.

::

    bundle/
      bundle.json         what it is: model, options, fingerprints, metrics, how features are made, sha256 of every file
      README.md           model card, as a model hub reads it
      items.parquet       index, item_id, title, fields, image, picture: the id map and what is known of each item
      model/              config.json and *.safetensors
      features/NAME.safetensors   vectors and which are present, of the models that read features
      images/             small pictures of the items, if they were requested
      onnx/               the sequence encoder for other runtimes, if that was requested
"""

from palate.bundle.add import Added, add_items
from palate.bundle.hub import push
from palate.bundle.items import BundleItems
from palate.bundle.load import Bundle, Recommended
from palate.bundle.make import make_bundle

__all__ = ["Added", "Bundle", "BundleItems", "Recommended", "add_items", "make_bundle", "push"]
