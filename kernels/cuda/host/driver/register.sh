#!/usr/bin/env bash
# register.sh norms.cu: a translation unit of the file and the list of its kernels, read from what a CUDA compiler would see.
set -euo pipefail
file=$1
echo "// Generated from $(basename "$file")."
echo "#include \"$(basename "$file")\""
echo '#include "host/driver/fibers.h"'
echo 'SIMULATED_KERNELS {'
"${CXX:-c++}" -E -P -x c++ "$file" | tr '\n' ' ' |
    grep -oE '__launch_bounds__ *\([^)]*\) *[A-Za-z0-9_]+ *\(' |
    sed -E 's/__launch_bounds__ *\(([^,)]*)[^)]*\) *([A-Za-z0-9_]+) *\(/    simulated::of_fibers<\&\2>("\2", \1),/'
echo '    {nullptr, 0, nullptr, nullptr, 0},'
echo '};'
