"""Display names of metrics, compared models and threshold goals."""

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "top_3_accuracy": "Top-3 accuracy",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
}
METRIC_MEANINGS = {
    "accuracy": "Share of images classified correctly.",
    "balanced_accuracy": "Recall averaged over classes: rare classes count as much as frequent ones.",
    "macro_f1": "Balance of recall and precision, averaged over classes.",
    "auroc": "How often an image of a class ranks above one of another class. Chance: 50 %.",
    "average_precision": "Precision averaged over all thresholds; sensitive when a class is rare.",
    "top_3_accuracy": "The right class is among the three most probable.",
    "log_loss": "Negative log probability of the right class. Lower is better; confident mistakes cost most.",
    "brier": "Squared distance of the probabilities to the truth. Lower is better.",
    "ece": "Root mean squared gap between confidence and accuracy, without the part due to chance "
    "(debiased, Kumar et al. 2019). Lower is better.",
}
COMPARED_MODELS = {
    "head": "Head on frozen features",
    "random_init": "Head on the backbone without pretraining",
    "majority": "Most frequent class",
    "champion": "Champion",
}
THRESHOLD_GOALS = {"max_f1": "the best F1"}
"""What a threshold is chosen for; goals with a number need no display name."""
