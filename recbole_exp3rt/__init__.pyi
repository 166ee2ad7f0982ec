"""The public names; `__init__.py` imports each on its first use."""

from .config.checked import Config as Config
from .config.native import register as register
from .errors import UsageError as UsageError
from .quick_start.quick_start import run as run
from .quick_start.rerankers import load_reranker as load_reranker
from .recommender import Recommender as Recommender
from .records import Review as Review
from .rerank.reranker import Candidates as Candidates
from .rerank.reranker import RatingReranker as RatingReranker
from .rerank.reranker import Reranker as Reranker
from .rerank.trainer import make_reranking_trainer as make_reranking_trainer
from .scale import RatingScale as RatingScale

__version__: str
