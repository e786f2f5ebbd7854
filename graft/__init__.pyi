from graft.serving.loading import load_model as load
from pipelines.api.changing import adapt as adapt
from pipelines.api.changing import update as update
from pipelines.api.checking import doctor as doctor
from pipelines.api.checking import validate as validate
from pipelines.api.fitting import fit as fit
from pipelines.api.progress import Progress as Progress
from pipelines.api.result import Result as Result

__all__ = ["Progress", "Result", "adapt", "doctor", "fit", "load", "update", "validate"]
