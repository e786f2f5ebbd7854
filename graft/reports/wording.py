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
    "mean_average_precision": "Mean average precision",
    "micro_f1": "Micro F1",
    "coverage_error": "Coverage error",
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
TAG_MEANINGS = {
    "accuracy": "Share of images with exactly the right labels (exact match).",
    "macro_f1": "Balance of recall and precision at each label's threshold, averaged over labels.",
    "micro_f1": "Balance of recall and precision over all labels of all images together.",
    "mean_average_precision": "Average precision of the labels, averaged over labels; needs no threshold.",
    "coverage_error": "How many of the most probable labels include all that an image has. Lower is better.",
    "log_loss": "Negative log probability of the right labels, summed over labels. Lower is better.",
}
"""Where a metric means something else for tags."""
COMPARED_MODELS = {
    "head": "Head on frozen features",
    "random_init": "Head on the backbone without pretraining",
    "majority": "Most frequent class",
    "champion": "Champion",
}
THRESHOLD_GOALS = {"max_f1": "the best F1"}
"""What a threshold is chosen for; goals with a number need no display name."""
