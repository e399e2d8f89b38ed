// A program's manual page, from the flags that it has.
// Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "memstore/program/program_texts.h"

namespace engram {

// In man's macros, for `man -l`: the program's description, its flags, each command's with its own,
// and then what `texts` say, in the sections that manual pages have. No word is hyphenated, so that
// flags can be found and copied. It names no date, so that the same program makes the same page.
std::string ManPage(const CLI::App& app, const ProgramTexts& texts);

}  // namespace engram
