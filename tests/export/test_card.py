from ffpdata.export.card import write

ABOUT = {
    "ffpdata": "0.1.0",
    "pairs": 3,
    "tasks": {"removal": 2, "stylization": 1},
    "splits": {"test": {"pairs": 1, "sources": 1, "tasks": {"removal": 1}}}
    | {"train": {"pairs": 2, "sources": 1, "tasks": {"removal": 1, "stylization": 1}}},
    "geometry": [{"width": 1280, "height": 720, "frames": 81, "fps": 16.0, "pairs": 3}],
    "licences": {"CC0-1.0": 1, "bad | <b>licence</b>": 2},
    "captions_by": {"template": 2},
    "depth": {"pseudo": 1},
    "models": [
        {"model": "recolour@1", "role": "swapper", "licence": "Apache-2.0", "stages": ["synthesize"]}
        | {"backend": "ffpdata.models.classical.swapper:Recolour"}
    ],
    "settings": {},
}


def test_the_card_counts_and_is_honest() -> None:
    card = write(ABOUT)
    assert card.startswith("---\npretty_name")
    assert "| train | 2 | 1 | 1 | 1 |\n| test | 1 | 1 | 1 | 0 |\n" in card
    assert "| 1280 x 720 | 81 | 16.0 | 3 |" in card
    assert "no object becomes another" in card
    assert "Depth is a heuristic" not in card  # that model made none of these pairs


def test_users_words_do_not_break_the_tables() -> None:
    line = next(line for line in write(ABOUT).splitlines() if "licence\\<" in line or "bad" in line)
    assert line == r"| bad \| \<b\>licence\</b\> | 2 |"


def test_large_models_are_not_excused_as_classical_ones() -> None:
    models = [
        {"model": "VACE-14B@1", "role": "swapper", "licence": "Apache-2.0", "stages": ["synthesize"]}
        | {"backend": "ffpdata.models.vace:Vace"}
    ]
    assert "no object becomes another" not in write(ABOUT | {"models": models})


def test_the_card_says_what_the_score_is_and_how_it_is_spread() -> None:
    assert "## Score" not in write(ABOUT), "a run of an earlier release has none"
    score = {"about": ["Fitted on | nothing."], "pairs_from": {"removal": {"0.5": 1, "0.98": 4}}}
    card = write(ABOUT | {"score": score})
    assert "Fitted on \\| nothing." in card
    assert "| task | score from | pairs |\n|---|---:|---:|\n| removal | 0.5 | 1 |\n| removal | 0.98 | 4 |\n" in card


def test_the_card_says_whose_scores_they_are() -> None:
    assert "## Scores by trained models" not in write(ABOUT)
    score = {"score": "video_text", "mean": 24.2, "pairs": 3, "model": "a|b@1", "licence": "non-commercial"}
    card = write(ABOUT | {"assessed": [score | {"unit": "100 x cosine", "better": "higher", "meaning": "cosine"}]})
    assert "| `video_text` | 24.2 | 3 | cosine (100 x cosine) | a\\|b@1 | non-commercial |\n" in card
