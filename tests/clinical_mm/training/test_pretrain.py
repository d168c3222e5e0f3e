"""The stage `pretrain-text`: an encoder that loads anywhere, learns, can be adapted, and repeats bit by bit."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertModel

from clinical_mm.errors import EncoderError, StudyError, TrainingError
from clinical_mm.store import Store, current, read_json
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study
from clinical_mm.summary import StageSummary
from clinical_mm.training.pretrain import pretrain_text

_KILLED = """
import os, signal, sys
from pathlib import Path
from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.training import trainer
from clinical_mm.training.pretrain import pretrain_text
import torch
torch.set_num_threads(1)
study, at = load_study(Path(sys.argv[1])), int(sys.argv[2])
step = trainer.WholeTrainer.training_step
def killing(self, *args, **kwargs):
    if self.state.global_step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
trainer.WholeTrainer.training_step = killing
pretrain_text(study, Store(study.store_path))
"""


@pytest.fixture
def another(ingested: Any, tmp_path: Path) -> Callable[..., tuple[Study, Store]]:
    """`another(**changes)` → the study with other pretraining, and a copy of its store without an encoder."""

    def make(**changes: Any) -> tuple[Study, Store]:
        store = Store(tmp_path / "store")
        for name in ("deliveries", "linked", "tasks"):
            shutil.copytree(ingested.store.root / name, store.root / name, dirs_exist_ok=True)
        settings = type(ingested.study.pretrain_text).model_validate(
            ingested.study.pretrain_text.model_dump() | changes
        )
        return ingested.study.model_copy(update={"pretrain_text": settings}), store

    return make


def test_the_encoder_loads_with_transformers_auto_classes_offline(
    pretrained: StageSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, info = AutoModel.from_pretrained(
        pretrained.path, add_pooling_layer=False, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 1)
    tokenizer = AutoTokenizer.from_pretrained(pretrained.path)
    assert tokenizer.is_fast
    assert len(tokenizer) == 300 == model.config.vocab_size
    assert (tokenizer.mask_token, tokenizer.model_max_length) == ("[MASK]", 64)
    hidden = model(**tokenizer("The tumour is large.", return_tensors="pt")).last_hidden_state
    assert torch.isfinite(hidden).all()
    masked, info = AutoModelForMaskedLM.from_pretrained(pretrained.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert masked.config.max_position_embeddings == 64


def test_the_loss_on_notes_of_other_patients_goes_down(another: Callable[..., tuple[Study, Store]]) -> None:
    summary = pretrain_text(*another(epochs=4, learning_rate=0.01))
    losses = summary.curves["training_loss"]
    assert losses[-1] < losses[0] - 0.3
    table = summary.tables["masked language model"].set_index("held-out notes")["masked-token loss (nats)"]
    assert table["after"] < table["before"] - 0.3
    # An untrained model knows nothing: the loss is that of 300 equally likely entries.
    assert table["before"] == pytest.approx(torch.log(torch.tensor(300.0)).item(), abs=0.15)
    assert [check.is_passed for check in summary.checks] == [True]


def test_pretraining_twice_changes_nothing(ingested: Any, pretrained: StageSummary) -> None:
    again = pretrain_text(ingested.study, ingested.store)
    assert not pretrained.is_unchanged
    assert again.is_unchanged
    assert again.path == pretrained.path
    assert again.facts == pretrained.facts


def test_the_same_notes_and_seed_give_the_same_encoder_bit_by_bit(
    ingested: Any, pretrained: StageSummary, another: Callable[..., tuple[Study, Store]]
) -> None:
    again = pretrain_text(*another())
    assert _bytes(again.path) == _bytes(pretrained.path)


def test_another_seed_gives_another_encoder(
    pretrained: StageSummary, another: Callable[..., tuple[Study, Store]]
) -> None:
    study, store = another()
    again = pretrain_text(study.model_copy(update={"seed": 8}), store)
    assert _bytes(again.path)["model.safetensors"] != _bytes(pretrained.path)["model.safetensors"]


def test_starting_from_an_encoder_adapts_it_and_keeps_its_vocabulary_and_size(
    pretrained: StageSummary, another: Callable[..., tuple[Study, Store]], tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(_path(pretrained), start)
    # Settings for an encoder from scratch, which the one that is there overrules.
    study, store = another(start_from=str(start), vocabulary=500, hidden=64, epochs=1)
    summary = pretrain_text(study, store)
    assert (_path(summary) / "tokenizer.json").read_bytes() == (start / "tokenizer.json").read_bytes()
    adapted, first = (AutoModelForMaskedLM.from_pretrained(p) for p in (summary.path, start))
    assert adapted.config.hidden_size == 16
    word = "bert.embeddings.word_embeddings.weight"
    now, before = adapted.state_dict()[word], first.state_dict()[word]
    assert now.shape == before.shape == (300, 16)
    # It went on from where the other stood: nearer to it than to another start.
    assert 0 < float((now - before).norm()) < 0.5 * float(before.norm())
    assert summary.facts["starts from"] == str(start)
    assert summary.facts["language model head"] == "as it came"
    assert summary.curves["training_loss"][0] < _about(pretrained)["training_loss"][0]


def test_a_path_to_start_from_is_relative_to_the_study_file(
    ingested: Any, pretrained: StageSummary, another: Callable[..., tuple[Study, Store]]
) -> None:
    shutil.copytree(_path(pretrained), ingested.study.directory / "encoders" / "mine", dirs_exist_ok=True)
    study, store = another(start_from="encoders/mine")
    assert pretrain_text(study.placed_in(ingested.study.directory), store).facts["vocabulary"] == 300


def test_an_encoder_without_a_language_model_head_gets_a_new_one_and_the_summary_says_so(
    pretrained: StageSummary, another: Callable[..., tuple[Study, Store]], tmp_path: Path
) -> None:
    start = tmp_path / "headless"
    BertModel.from_pretrained(pretrained.path, add_pooling_layer=False).save_pretrained(start)
    AutoTokenizer.from_pretrained(pretrained.path).save_pretrained(start)
    summary = pretrain_text(*another(start_from=str(start)))
    assert summary.facts["language model head"] == "new"


def test_an_encoder_whose_weights_lack_its_own_tensors_is_refused(
    pretrained: StageSummary, another: Callable[..., tuple[Study, Store]], tmp_path: Path
) -> None:
    start = tmp_path / "deeper"
    shutil.copytree(_path(pretrained), start)
    config = BertConfig.from_pretrained(start)
    config.num_hidden_layers = 2
    config.save_pretrained(start)
    with pytest.raises(EncoderError, match="tensors of its encoder"):
        pretrain_text(*another(start_from=str(start)))


def test_a_window_longer_than_the_encoder_reads_is_refused(
    pretrained: StageSummary, another: Callable[..., tuple[Study, Store]]
) -> None:
    with pytest.raises(StudyError, match=r"window_tokens is 65.* reads 64 at most"):
        pretrain_text(*another(start_from=str(pretrained.path), window_tokens=65))


def test_a_start_that_is_nowhere_is_an_error_with_its_name(
    another: Callable[..., tuple[Study, Store]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="nobody/nothing"):
        pretrain_text(*another(start_from="nobody/nothing"))


def test_a_study_that_pretrains_nothing_says_so(ingested: Any) -> None:
    study = ingested.study.model_copy(update={"pretrain_text": None})
    with pytest.raises(StudyError, match="no pretrain_text"):
        pretrain_text(study, ingested.store)


def test_heads_that_do_not_divide_the_width_are_named(another: Callable[..., tuple[Study, Store]]) -> None:
    with pytest.raises(EncoderError, match=r"hidden \(18\) is not a multiple of heads \(4\)"):
        pretrain_text(*another(hidden=18, heads=4))


def test_a_loss_that_is_no_number_ends_pretraining_with_a_sentence_and_leaves_no_encoder(
    another: Callable[..., tuple[Study, Store]],
) -> None:
    study, store = another(learning_rate=1e38)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        pretrain_text(study, store)
    assert current(store.text_encoder) is None


def test_steps_that_only_the_last_update_ruins_leave_no_encoder(
    another: Callable[..., tuple[Study, Store]],
) -> None:
    # One step an epoch: the loss before it is a number, the weights after it are not.
    study, store = another(learning_rate=1e38, batch_size=10_000, epochs=1)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        pretrain_text(study, store)
    assert current(store.text_encoder) is None


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 12], ids=["in the first epoch", "in the second epoch"])
def test_pretraining_killed_and_started_again_gives_the_same_encoder(
    ingested: Any, study_file: Callable[..., Path], tmp_path: Path, at: int
) -> None:
    def more_epochs(content: dict[str, Any]) -> None:
        content["pretrain_text"]["epochs"] = 3
        content["store"] = str(tmp_path / "store")

    path = study_file(ingested.path, ingested.path.with_name(f"killed_{at}.yaml"), more_epochs)
    store = Store(tmp_path / "store")
    for name in ("deliveries", "linked", "tasks"):
        shutil.copytree(ingested.store.root / name, store.root / name)
    study = load_study(path)
    uninterrupted = _bytes(pretrain_text(study, store).path)
    shutil.rmtree(store.text_encoder)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path), str(at)], capture_output=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert current(store.text_encoder) is None
    n_checkpoints = len(list((store.root / "cache" / "pretraining").glob("*/checkpoint-*")))
    assert n_checkpoints == (0 if at == 1 else 1)
    assert _bytes(pretrain_text(study, store).path) == uninterrupted
    assert not list((store.root / "cache" / "pretraining").iterdir())


def test_checkpoints_that_were_begun_with_other_settings_or_notes_are_removed(
    another: Callable[..., tuple[Study, Store]],
) -> None:
    study, store = another()
    stale = store.cache("pretraining") / "0123456789abcdef" / "checkpoint-3"
    stale.mkdir(parents=True)
    pretrain_text(study, store)
    assert not list(store.cache("pretraining").iterdir())


def _path(summary: StageSummary) -> Path:
    assert summary.path is not None
    return summary.path


def _about(summary: StageSummary) -> dict[str, Any]:
    return dict(read_json(_path(summary) / "pretraining.json"))


def _bytes(directory: Path | None) -> dict[str, bytes]:
    assert directory is not None
    return {n: (directory / n).read_bytes() for n in ("model.safetensors", "config.json", "tokenizer.json")}
