# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Rules built into Bazel 4.2, where newer versions load them from."""

def _files_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

files = repository_rule(
    implementation = _files_impl,
    attrs = {"files": attr.string_dict(doc = "Contents by path.")},
)

def native_rules(language, rules):
    """A repository `rules_<language>` that has the built-in rules."""
    files(
        name = "rules_" + language,
        files = {
            language + "/BUILD": "",
            language + "/defs.bzl": "".join([
                "{0} = native.{0}\n".format(rule)
                for rule in rules
            ]),
        },
    )
