"""clang-tidy over sources as they are compiled: bazel build --aspects=//third_party/bazel:tidy.bzl%tidy --output_groups=tidy

An action for each source, so that it runs again only where the source or a header of it changed. Tests go without the checks of
tools/tidy.sh that take longest.
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _sources(rule):
    return [
        file
        for source in getattr(rule.attr, "srcs", [])
        for file in source.files.to_list()
        if file.is_source and file.extension == "cc"
    ]

def _tidy_impl(target, ctx):
    is_cc = ctx.rule.kind in ("cc_library", "cc_binary", "cc_test")
    sources = _sources(ctx.rule) if is_cc and not target.label.workspace_name else []
    if not sources:
        return [OutputGroupInfo(tidy = depset())]
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    contexts = [one[CcInfo].compilation_context for one in [target] + ctx.rule.attr.deps if CcInfo in one]
    done = []
    for source in sources:
        variables = cc_common.create_compile_variables(
            cc_toolchain = toolchain,
            feature_configuration = features,
            source_file = source.path,
            user_compile_flags = ctx.fragments.cpp.cxxopts + ctx.fragments.cpp.copts + getattr(ctx.rule.attr, "copts", []),
            include_directories = depset(transitive = [one.includes for one in contexts]),
            quote_include_directories = depset(transitive = [one.quote_includes for one in contexts]),
            system_include_directories = depset(transitive = [one.system_includes for one in contexts]),
            preprocessor_defines = depset(transitive = [one.defines for one in contexts]),
        )
        flags = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        )
        out = ctx.actions.declare_file("_tidy/%s/%s.ok" % (target.label.name, source.basename))
        ctx.actions.run(
            executable = ctx.file._script,
            arguments = [out.path, source.path] + flags,
            inputs = depset(
                [source, ctx.file._config] + [
                    file
                    for attribute in ("srcs", "hdrs", "textual_hdrs")
                    for one in getattr(ctx.rule.attr, attribute, [])
                    for file in one.files.to_list()
                ],
                transitive = [one.headers for one in contexts] + [toolchain.all_files],
            ),
            outputs = [out],
            mnemonic = "ClangTidy",
            progress_message = "clang-tidy " + source.path,
            use_default_shell_env = True,
        )
        done.append(out)
    return [OutputGroupInfo(tidy = depset(done))]

tidy = aspect(
    implementation = _tidy_impl,
    attrs = {
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_config": attr.label(default = "//:.clang-tidy", allow_single_file = True),
        "_script": attr.label(default = "//tools:tidy.sh", allow_single_file = True),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
