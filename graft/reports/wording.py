"""What metrics and rivals are called where people read of them."""

NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "top_3_accuracy": "Top-3 accuracy",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
}
MEANINGS = {
    "accuracy": "Images named rightly.",
    "balanced_accuracy": "Part of a class that is found, averaged over classes: rare ones count as much.",
    "macro_f1": "Finding a class and not naming others so, averaged over classes.",
    "auroc": "How often an image of a class ranks above one that is not. A coin: 50 %.",
    "average_precision": "Precision averaged over all thresholds; suffers first where a class is rare.",
    "top_3_accuracy": "The right class is among the three most probable.",
    "log_loss": "Surprise at the truth. Lower is better; sure and wrong costs most.",
    "brier": "Squared distance of the probabilities to the truth. Lower is better.",
    "ece": "How far confidence is from being right that often. Lower is better.",
}
RIVALS = {
    "head": "Head on frozen features",
    "random_init": "Head on the backbone without pretraining",
    "majority": "Most frequent class",
    "champion": "Champion",
}
GOALS = {"max_f1": "the best F1"}
"""What a threshold is chosen for; goals with a number say it themselves."""
