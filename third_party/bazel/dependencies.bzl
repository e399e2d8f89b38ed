"""What this workspace's own code is built against; a workspace that uses @engram calls it as well.

    local_repository(name = "engram", path = "...")
    load("@engram//third_party/bazel:offline.bzl", "offline_bazel_repositories")
    offline_bazel_repositories()
    load("@engram//third_party/bazel:dependencies.bzl", "engram_dependencies")
    engram_dependencies()

Nothing is downloaded: @system holds the operating system's libraries (debian-packages.txt), found by pkg-config.
"""

load(":system.bzl", "system_libraries")

def engram_dependencies():
    """Makes @system."""
    system_libraries(
        name = "system",
        extra_linkopts = {
            "benchmark_main": ["-lbenchmark_main"],
            "grpc++_channelz": ["-lgrpcpp_channelz"],
            "grpc++_reflection": ["-lgrpc++_reflection"],
        },
        # Benchmarks alone: third_party/debian-packages-bench.txt.
        optional = {
            "hiredis": ["hiredis"],
            "lmdb": ["lmdb"],
            "memcached": ["libmemcached"],
            "rocksdb": ["rocksdb"],
        },
        required = {
            "absl": [
                "absl_flat_hash_map",
                "absl_flat_hash_set",
                "absl_random_random",
                "absl_span",
                "absl_status",
                "absl_statusor",
                "absl_strings",
                "absl_time",
            ],
            "benchmark": ["benchmark"],
            "benchmark_main": ["benchmark"],
            "cli11": ["CLI11"],
            "gmock": ["gmock"],
            "grpc++": ["grpc++"],
            "grpc++_channelz": ["grpc++"],
            "grpc++_reflection": ["grpc++"],
            "gtest": ["gtest"],
            "gtest_main": [
                "gtest_main",
                "gmock",
            ],
            "ibverbs": ["libibverbs"],
            "icu": ["icu-uc"],
            "isal": ["libisal"],
            "json": ["nlohmann_json"],
                        "libcrypto": ["libcrypto"],
            "libssl": ["libssl"],
            "microhttpd": ["libmicrohttpd"],
            "numa": ["numa"],
            "prometheus": ["prometheus-cpp-pull"],
            "protobuf": ["protobuf"],
            "rdmacm": ["librdmacm"],
            "spdlog": ["spdlog"],
            "systemd": ["libsystemd"],
        },
        tools = [
            "grpc_cpp_plugin",
            "protoc",
        ],
    )
