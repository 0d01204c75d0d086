from palate.alignment.align import align as align
from palate.artefact import describe as describe
from palate.bundle.load import Bundle as Bundle
from palate.data.dataset import Dataset as Dataset
from palate.data.frames import from_frames as from_frames
from palate.data.prepare import prepare as prepare
from palate.errors import PalateError as PalateError
from palate.estimators import EASE as EASE
from palate.estimators import IALS as IALS
from palate.estimators import BERT4Rec as BERT4Rec
from palate.estimators import GRU4Rec as GRU4Rec
from palate.estimators import ItemKNN as ItemKNN
from palate.estimators import Popularity as Popularity
from palate.estimators import SASRec as SASRec
from palate.evaluation.evaluate import evaluate as evaluate
from palate.evaluation.gate import gate as gate
from palate.experiments.tune import tune as tune
from palate.experiments.tune_recipe import TuneRecipe as TuneRecipe
from palate.features.encode import encode as encode
from palate.features.store import FeatureStore as FeatureStore
from palate.rankers.recommend import Recommendations as Recommendations
from palate.rankers.registry import load_recommender as load_recommender
from palate.runs.run import Run as Run
from palate.training.blend import blend as blend
from palate.training.fit import train as train
from palate.training.refit import refit as refit

__version__: str
