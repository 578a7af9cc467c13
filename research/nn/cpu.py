def prepare():
  pass


def compiler_options():
  return {}
