# One source file per instruction set, each with its own flags; which one runs is decided at run time.
# Never -march=native: in a virtual machine it may name a model without these features.
set(EMB_X86_64 OFF)
set(EMB_AARCH64 OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(EMB_X86_64 ON)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(EMB_AARCH64 ON)
endif()

set(EMB_KERNELS_DIR ${CMAKE_CURRENT_LIST_DIR})
function(emb_kernel_flags pattern)
  file(GLOB files CONFIGURE_DEPENDS ${EMB_KERNELS_DIR}/${pattern})
  set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${ARGN}")
endfunction()

emb_kernel_flags(portable*.c -O3)
if(EMB_X86_64)
  emb_kernel_flags(avx2*.c -O3 -mavx2 -mfma -mf16c -mbmi2)
  emb_kernel_flags(avx512*.c -O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mbmi2)
  emb_kernel_flags(avx512bf16*.c -O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mfma -mf16c -mbmi2)
  emb_kernel_flags(amx*.c -O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mfma -mf16c -mbmi2)
endif()
if(EMB_AARCH64)
  emb_kernel_flags(neon*.c -O3)
  emb_kernel_flags(neon_dot.c -O3 -march=armv8.2-a+dotprod)
  emb_kernel_flags(neon_bf16.c -O3 -march=armv8.2-a+dotprod+bf16)
endif()
# Files of other architectures guard their whole contents with #if, so that the glob may take them all.
