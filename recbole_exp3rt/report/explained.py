"""How to read a report, in plain sentences: the same in every form."""

HOW_TO_READ = (
    "RMSE and MAE are errors in rating units: lower is better. Recall and NDCG are shares of 1: "
    "higher is better.",
    "The small figures beside a value are its 95 % interval: users (and seeds, if there are "
    "several) were drawn again many times. Wide intervals mean few users.",
    "A star ★ marks a system that is better, and the difference holds: paired on the same rows, "
    "tested by user, corrected for the number of tests in the table. An empty star ☆ says the same "
    "of a worse system. Without a star, a difference may be chance.",
    "Constant is the mean rating of the train part, Bias knows only who rates high and which item "
    "is liked. A system that reads reviews has to beat both.",
    "Warm users have more than three train ratings, cold users one to three, unseen users none.",
    "A missing answer never helps: it counts as the largest possible error. Coverage is the share "
    "of answers that could be read.",
    "Of a ranking, perfect order is the best order of the same candidates. No reranker passes it.",
)
