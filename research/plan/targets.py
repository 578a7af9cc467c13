"""The compiler's description of a GPU that is not there, from the chip's public figures."""

from __future__ import annotations

from research.plan.topology import Chip

# CUDA's programming guide, table of compute capabilities: alike in 8.0 and 9.0 where not listed.
_SHARED = {(8, 0): 164 << 10, (9, 0): 228 << 10}  # bytes of one multiprocessor
_RESERVED = 1 << 10  # bytes of a block's shared memory that the system takes
_CLOCK = {(8, 0): 1.41, (9, 0): 1.98}  # GHz


def description(chip: Chip) -> str:
  """A `GpuTargetConfigProto` as text."""
  major, minor = chip.capability
  shared = _SHARED[chip.capability]
  return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: {48 << 10}
  shared_memory_per_block_optin: {shared - _RESERVED}
  shared_memory_per_core: {shared}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: {chip.core_count}
  fpus_per_core: {128 if major >= 9 else 64}
  memory_bandwidth: {int(chip.bandwidth)}
  l2_cache_size: {chip.l2}
  clock_rate_ghz: {_CLOCK[chip.capability]}
  device_memory_size: {int(chip.memory)}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
"""
