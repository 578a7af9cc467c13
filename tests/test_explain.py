"""Before anything runs, each parameter says where it goes; what would be silently wrong is told."""

from research import Experiment, Sharding, cli, data, models, objectives, optim
from research.explain import explain
from research.mesh import RULES


def experiment(mesh, rules=RULES, heads=4, width=256, batch_size=8):
  return Experiment(
    name="explained",
    data=data.Text(data.Files("nowhere.txt"), data.Bytes(), length=2048),
    model=models.GPT(vocab_size=512, max_length=2048, width=width, depth=2, heads=heads),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Constant(1e-3)),
    batch_size=batch_size,
    sharding=Sharding(mesh, rules),
  )


def by_name(lines):
  return {line.name: line for line in lines}


def test_every_parameter_names_its_rules_and_bytes_without_data_or_devices():
  lines, problems = explain(experiment({"fsdp": 64, "tensor": 4}, batch_size=64))
  assert not problems
  kernel = by_name(lines)["blocks/0::1/mlp/up/kernel"]
  assert (kernel.letters, kernel.shape) == (("N", "D", "F"), (2, 256, 1024))
  assert kernel.matched == (None, "fsdp", "tensor")
  assert kernel.whole == 2 * 256 * 1024 * 4 and kernel.each == kernel.whole // 256


def test_a_pipeline_splits_the_layers():
  lines, problems = explain(experiment({"stage": 2}))
  assert by_name(lines)["blocks/0::1/mlp/up/kernel"].matched == ("stage", None, None)
  assert not problems


def test_a_large_array_that_no_rule_splits_is_an_error_with_the_way_out():
  rules = tuple(rule for rule in RULES if rule[0] != "D")
  _, problems = explain(experiment({"fsdp": 4}, (*rules, ("K", "fsdp"))))
  assert [p for p in problems if p.startswith("embed_positions/table LD(2048, 256), 2.0 MiB")]
  assert "as ('D', 'fsdp')" in problems[0]


def test_replicas_may_hold_everything():
  assert not explain(experiment({"data": 8}))[1]


def test_a_rule_that_matches_nothing_is_an_error():
  _, (problem,) = explain(experiment({"fsdp": 4}, (*RULES, ("Q", "fsdp"))))
  assert problem.startswith("the rule ('Q', 'fsdp') matches nothing")


def test_all_sizes_that_do_not_divide_are_told_at_once():
  _, problems = explain(experiment({"tensor": 3}, heads=4, width=256))
  assert len([p for p in problems if "does not divide by 3" in p]) > 3
  assert "batch tokens: dimension B=8" in explain(experiment({"data": 3}))[1][0]


def test_the_command_exits_with_2_where_something_is_wrong(capsys):
  fine = ["explain", "experiments/gpt2.py:smoke", "--mesh", "fsdp=4,tensor=2"]
  assert cli.main(fine) == 0
  assert "D over fsdp, F over tensor" in capsys.readouterr().out
  assert cli.main([*fine[:-1], "tensor=64"]) == 2
  told = capsys.readouterr().err
  assert told.count("error: ") > 1 and "choose another size, or drop the rule" in told
  assert cli.main([*fine[:-1], "tensr=2"]) == 2
  assert "Did you mean 'tensor'?" in capsys.readouterr().err
