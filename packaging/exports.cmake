# What the libraries export is what embedd.h (libembedd) and embedd_service.h (libembedd-service) declare with
# EMB_API, read from the headers themselves.
#
# The shared library gets it as a version script: hidden visibility alone would still export the weak symbols
# of C++ templates. The static library is one object, linked from all others, in which every other symbol has
# been made local, so that names inside it cannot collide with those of the program.
function(emb_exports_of header out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
  file(READ ${header} text)
  string(REPLACE ";" "@" text "${text}")
  string(REGEX MATCHALL "\nEMB_API[^@]*@" declarations "${text}")
  set(found "")
  foreach(declaration ${declarations})
    string(REGEX REPLACE "^[^(]*[ *](emb_[a-z0-9_]+)\\(.*" "\\1" name "${declaration}")
    list(APPEND found ${name})
  endforeach()
  set(${out} ${found} PARENT_SCOPE)
endfunction()
emb_exports_of(include/embedd.h EMB_EXPORTS)
list(JOIN EMB_EXPORTS ";" names)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/exports.map CONTENT "{ global: ${names}; local: *; };\n")
list(JOIN EMB_EXPORTS "\n" names)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/exports.txt CONTENT "${names}\n")
emb_exports_of(include/embedd_service.h EMB_SERVICE_EXPORTS)
list(JOIN EMB_SERVICE_EXPORTS ";" names)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/service_exports.map CONTENT "{ global: ${names}; local: *; };\n")

target_link_options(embedd_shared PRIVATE -Wl,--version-script=${CMAKE_BINARY_DIR}/exports.map)
set_target_properties(embedd_shared PROPERTIES LINK_DEPENDS ${CMAKE_BINARY_DIR}/exports.map)

add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/embedd_whole.o
  COMMAND ${CMAKE_LINKER} -r -o ${CMAKE_BINARY_DIR}/embedd_whole.o $<TARGET_OBJECTS:embedd_objects>
  COMMAND ${CMAKE_OBJCOPY} --keep-global-symbols=${CMAKE_BINARY_DIR}/exports.txt ${CMAKE_BINARY_DIR}/embedd_whole.o
  DEPENDS $<TARGET_OBJECTS:embedd_objects> ${CMAKE_BINARY_DIR}/exports.txt
  COMMAND_EXPAND_LISTS VERBATIM)
add_library(embedd_archive STATIC ${CMAKE_BINARY_DIR}/embedd_whole.o)
set_target_properties(embedd_archive PROPERTIES OUTPUT_NAME embedd LINKER_LANGUAGE C
  ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/installed)
