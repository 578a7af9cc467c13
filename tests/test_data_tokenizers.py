"""Tokenizers: text comes back as it went in, and bytes add up."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research import data
from research.data.published import CLIP, letters_of_bytes
from research.errors import UserError

CORPUS = [
  f"def f{i}(x):\n\t  return x + {i}    # the später river 漢字 runs, and the  tree stands\n" * 3
  for i in range(60)
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
  """A small vocabulary as GPT-2's was published."""
  folder = tmp_path_factory.mktemp("gpt2")
  letters = list(letters_of_bytes().values())
  merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("r", "i")]
  pieces = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
  (folder / "encoder.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
  lines = "\n".join(" ".join(pair) for pair in merges)
  (folder / "vocab.bpe").write_text(f"#version: 0.2\n{lines}\n")
  return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
  path = tmp_path_factory.mktemp("bert") / "vocab.txt"
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "riv", "##er", ",", "é", "cafe"]
  path.write_text("\n".join(pieces) + "\n")
  return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
  path = tmp_path_factory.mktemp("clip") / CLIP
  path.write_bytes(gzip.compress(b"#version\nt h\nth e</w>\nc a\nca t</w>\n"))
  return path


@pytest.fixture(scope="module")
def lossless(gpt2):
  tokenizers = [
    data.Bytes(),
    data.SentencePiece(320),
    data.SentencePiece(320, "bpe"),
    data.HuggingFace(str(gpt2)),
  ]
  return [(tokenizer, tokenizer.fit(CORPUS)) for tokenizer in tokenizers]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
  st.sampled_from(" \n\t\u2581\u2585\r\0theärivf<|>_0"), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(texts)
@example("\u2581 a\u2581\u2581")
@example("    x" * 20 + "\n\n\n\t\t  ")
@example("<|endoftext|></s><0x0A><unk>[SEP]")
@example("a\0b\0")
@example("")
@example(" ")
def test_text_comes_back_as_it_went_in(lossless, text):
  for tokenizer, vocabulary in lossless:
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text, tokenizer
    assert vocabulary.bytes_of[ids].sum() == len(text.encode()), tokenizer
    assert vocabulary.end not in ids
    assert vocabulary.lossless


def test_many_at_once_are_the_same_as_one_by_one(lossless, bert, clip):
  others = [data.HuggingFace(str(bert)), data.HuggingFace(str(clip))]
  for vocabulary in [v for _, v in lossless] + [tokenizer.fit() for tokenizer in others]:
    several = ["", *CORPUS[:5], "\u2581", "漢字 \0 the"]
    for text, ids in zip(several, vocabulary.encode_all(several)):
      np.testing.assert_array_equal(vocabulary.encode(text), ids)


def test_a_vocabulary_has_the_promised_size_and_end(lossless):
  for tokenizer, vocabulary in lossless:
    assert tokenizer.vocab_size == vocabulary.vocab_size == len(vocabulary.bytes_of)
    assert vocabulary.bytes_of[vocabulary.end] == 0
    assert vocabulary.decode([vocabulary.end]) == ""
    assert vocabulary.bytes_of.dtype == np.int32


def test_saved_and_loaded_is_the_same(lossless, bert, clip, tmp_path):
  others = [data.HuggingFace(str(bert)).fit(), data.HuggingFace(str(clip)).fit()]
  for i, vocabulary in enumerate([*(v for _, v in lossless), *others]):
    vocabulary.save(tmp_path / str(i))
    loaded = data.load_vocabulary(tmp_path / str(i))
    assert loaded.end == vocabulary.end
    assert loaded.lossless == vocabulary.lossless
    np.testing.assert_array_equal(loaded.bytes_of, vocabulary.bytes_of)
    np.testing.assert_array_equal(loaded.encode(CORPUS[0]), vocabulary.encode(CORPUS[0]))


def test_half_a_character_decodes_to_a_replacement(lossless):
  vocabulary = lossless[0][1]
  assert vocabulary.decode(vocabulary.encode("aä")[:2]) == "a\ufffd"
  assert vocabulary.decode([vocabulary.vocab_size + 5]) == "\ufffd"  # a padded model's token


def test_training_again_gives_the_same_pieces(tmp_path, monkeypatch):
  first = data.SentencePiece(330).fit(CORPUS)
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path))
  again = data.SentencePiece(330).fit(CORPUS)
  assert first._model == again._model


def test_white_space_has_pieces_of_its_own():
  vocabulary = data.SentencePiece(330).fit(CORPUS)
  assert [vocabulary.decode([i]) for i in vocabulary.encode("\n\t    ")] == ["\n", "\t", "    "]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_many_pieces_says_how_many_there_can_be(kind):
  with pytest.raises(UserError, match=r"vocab_size=5000 is more .*; choose \d+ or less") as caught:
    data.SentencePiece(5000, kind).fit(CORPUS)
  most = int(str(caught.value).split("choose ")[1].split()[0])
  assert data.SentencePiece(most, kind).fit(CORPUS).vocab_size == most


def test_too_few_pieces_for_the_characters_is_told():
  letters = [
    "".join(chr(0x4E00 + i) for i in range(start, start + 50)) for start in range(0, 900, 50)
  ]
  with pytest.raises(UserError, match=r"less than the \d+ characters"):
    data.SentencePiece(300, coverage=1.0).fit(letters)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: data.SentencePiece(100), "no room for the 256 bytes"),
    (lambda: data.SentencePiece(1000, "word"), "choose 'unigram' or 'bpe'"),
    (lambda: data.HuggingFace("/nowhere").fit(), "there is no /nowhere"),
  ],
)
def test_mistakes_are_told(make, message):
  with pytest.raises(UserError, match=message):
    make()


def test_gpt2_files_merge_as_written(gpt2):
  vocabulary = data.HuggingFace(str(gpt2)).fit()
  assert [vocabulary.decode([i]) for i in vocabulary.encode("the the ri")] == (
    ["t", "he", " the", " ", "ri"]
  )
  assert vocabulary.end == 260
  for name in ("encoder.json", "vocab.bpe"):
    assert data.HuggingFace(str(gpt2 / name)).vocab_size == 261


def test_text_that_looks_like_end_of_text_is_text(gpt2):
  vocabulary = data.HuggingFace(str(gpt2)).fit()
  assert vocabulary.end not in vocabulary.encode("a<|endoftext|>b")


def test_bert_lowers_splits_and_knows_its_specials(bert):
  vocabulary = data.HuggingFace(str(bert)).fit()
  assert vocabulary.encode("The river, xyz café").tolist() == [5, 6, 7, 8, 1, 10]
  assert vocabulary.decode([5, 6, 7]) == "the river"
  assert vocabulary.special["[MASK]"] == 4
  assert vocabulary.end == 3
  assert not vocabulary.lossless
  assert vocabulary.bytes_of.tolist() == [0, 0, 0, 0, 0, 3, 3, 2, 1, 2, 4]


def test_a_vocabulary_with_capitals_keeps_them(tmp_path):
  (tmp_path / "vocab.txt").write_text("[UNK]\n[SEP]\nThe\nthe\n")
  assert data.HuggingFace(str(tmp_path)).fit().encode("The the").tolist() == [2, 3]


def test_clip_has_words_with_ends(clip):
  vocabulary = data.HuggingFace(str(clip)).fit()
  assert vocabulary.vocab_size == 512 + 4 + 2
  assert vocabulary.encode("The  CAT").tolist() == [513, 515]
  assert vocabulary.decode([516, 513, 515, 517]) == "the cat"
  assert vocabulary.special == {"<|startoftext|>": 516, "<|endoftext|>": 517}
  assert vocabulary.bytes_of[[513, 515]].tolist() == [3, 3]


def test_clip_takes_as_many_merges_as_its_model_had(tmp_path):
  letters = list(letters_of_bytes().values())
  lines = [f"{a} {b}" for a in letters for b in letters]
  (tmp_path / CLIP).write_bytes(gzip.compress("\n".join(["#version", *lines]).encode()))
  assert data.HuggingFace(str(tmp_path)).vocab_size == 49_408


def test_a_tokenizer_json_is_read(gpt2, tmp_path):
  original = data.HuggingFace(str(gpt2)).fit()
  original.save(tmp_path)
  again = data.HuggingFace(str(tmp_path / "tokenizer.json"), end="<|endoftext|>").fit()
  np.testing.assert_array_equal(again.encode(CORPUS[0]), original.encode(CORPUS[0]))
  with pytest.raises(UserError, match="no </x>; name its end-of-text token"):
    data.HuggingFace(str(tmp_path / "tokenizer.json"), end="</x>").fit()


def test_a_text_is_neither_cut_nor_filled_up_whatever_a_tokenizer_json_says(bert, tmp_path):
  from tokenizers import Tokenizer

  plain = data.HuggingFace(str(bert)).fit()
  settled = Tokenizer.from_str(plain.text)
  settled.enable_truncation(4)
  settled.enable_padding(length=4)
  settled.save(str(tmp_path / "tokenizer.json"))
  again = data.HuggingFace(str(tmp_path)).fit()
  for text in ("the", "the river the river"):
    np.testing.assert_array_equal(again.encode(text), plain.encode(text))


@pytest.fixture
def llama(tmp_path):
  """A small tokenizer.model that puts a space before a text, as Llama's does."""
  import sentencepiece

  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(CORPUS),
    model_prefix=str(tmp_path / "tokenizer"),
    vocab_size=330,
    byte_fallback=True,
    minloglevel=2,
  )
  return tmp_path / "tokenizer.model"


def test_a_tokenizer_model_has_the_marks_it_has_and_is_lossless_where_it_is(llama):
  own = data.HuggingFace(str(llama), end="</s>", begin="<s>").fit()
  assert (own.name(own.begin), own.name(own.end)) == ("<s>", "</s>")
  assert own.decode(own.encode("a")) == " a" and not own.lossless
  with pytest.raises(UserError, match=r"tokenizer\.model: end='\[SEP\]' is not .* '</s>'; leave"):
    data.HuggingFace(str(llama), end="[SEP]").fit()
  with pytest.raises(UserError, match=r"begin='</s>' is not what the model has, '<s>'"):
    data.HuggingFace(str(llama), begin="</s>").fit()


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("tokenizer.json", "{", "cannot be read as a tokenizer"),
    ("tokenizer.json", "{}", "cannot be read as a tokenizer"),
    ("vocab.txt", "the\nriver\n", "has no .UNK."),
    ("encoder.json", "{}", "holds no vocabulary"),
    ("model.bin", "x", "holds no vocabulary"),
    (CLIP, "not gzip", "is not whole gzip data"),
  ],
)
def test_bad_files_are_told(tmp_path, name, content, message):
  (tmp_path / name).write_text(content)
  with pytest.raises(UserError, match=message):
    data.HuggingFace(str(tmp_path / name)).fit()


@pytest.mark.parametrize(
  ("files", "message"),
  [
    ({}, "holds no vocabulary"),
    ({"vocabulary.json": "{"}, "is damaged"),
    ({"vocabulary.json": "[]"}, "does not name its kind"),
    ({"vocabulary.json": '{"kind": "x"}'}, "unknown kind 'x'"),
    ({"vocabulary.json": '{"kind": "sentencepiece"}'}, "cannot be read"),
    ({"vocabulary.json": '{"kind": "huggingface"}'}, "cannot be read"),
    (
      {"vocabulary.json": '{"kind": "sentencepiece"}', "sentencepiece.model": "x"},
      "cannot be read",
    ),
  ],
)
def test_a_damaged_saved_vocabulary_is_told(tmp_path, files, message):
  for name, content in files.items():
    (tmp_path / name).write_text(content)
  with pytest.raises(UserError, match=message):
    data.load_vocabulary(tmp_path)
