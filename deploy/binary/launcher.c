/* The native part of the one-file program: puts Python into memory and starts it there.
 *
 * The file is this program, with the shared libraries Python cannot begin without in its read-only data (blobs.h, made
 * by natives.py); behind it other native modules, and a zip archive of everything else, which Python reads as a path
 * (boot.py). Libraries are loaded from anonymous files in memory: nothing is unpacked, there is one process from the
 * first instruction to the last, and what replaces the file on disk does not touch who runs (/proc/self/exe stays the
 * file that was started).
 *
 * Rule: the environment is neither read for Python's sake (PYTHON...) nor changed; a failure is one line and exit code
 * 1. Deliberately absent: unpacking, a second process, decompression (the archive is zlib's business, in Python).
 */
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blobs.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define ARCHIVE "/proc/self/exe"

static int fail(const char *what, const char *why) {
    fprintf(stderr, "runestone: %s: %s\n", what, why);
    return 1;
}

/* An anonymous file that may be mapped as code: in memory, or where that is forbidden (vm.memfd_noexec) without a name
 * in the folder for temporary files. boot.py does the same for what comes later. */
static int anonymous(const char *name) {
    int file = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    if (file < 0 && errno == EINVAL) {
        file = memfd_create(name, MFD_CLOEXEC); /* before Linux 6.3 all of them are executable */
    }
    if (file < 0) {
        const char *folder = getenv("TMPDIR");
        file = open(folder != NULL ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0700);
    }
    return file;
}

/* Raises no error: NULL when it cannot be loaded, which has been said then. `number` keeps the paths apart: the dynamic
 * linker takes a path it knows for the library it knows, and descriptors are used again. */
static void *load(const struct blob *blob, int number) {
    char path[PATH_MAX] = "";
    int file = anonymous(blob->name);
    for (const unsigned char *at = blob->begin; file >= 0 && at < blob->end;) {
        ssize_t written = write(file, at, (size_t)(blob->end - at));
        if (written < 0) {
            close(file);
            file = -1;
            break;
        }
        at += written;
    }
    if (file < 0) {
        fail("cannot place its libraries in memory, nor in $TMPDIR", strerror(errno));
        return NULL;
    }
    memset(path, '/', (size_t)number);
    snprintf(path + number, sizeof path - (size_t)number, "/proc/self/fd/%d", file);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    close(file);
    madvise((void *)blob->begin, (size_t)(blob->end - blob->begin), MADV_DONTNEED); /* it need not be in memory twice */
    if (library == NULL) {
        fail("cannot load its libraries (is /proc there?)", dlerror());
    }
    return library;
}

/* The file under the name it was started by, so that a link, or another file moved there, is what an upgrade starts. */
static int executable(char *path, size_t size) {
    const char *started = (const char *)getauxval(AT_EXECFN);
    ssize_t length;
    if (started != NULL && started[0] == '/' && strncmp(started, "/dev/fd/", 8) != 0 && strncmp(started, "/proc/", 6) != 0) {
        return snprintf(path, size, "%s", started) < (int)size;
    }
    if (started != NULL && started[0] != '/') {
        char folder[PATH_MAX];
        if (getcwd(folder, sizeof folder) != NULL) {
            return snprintf(path, size, "%s/%s", folder, strncmp(started, "./", 2) == 0 ? started + 2 : started) < (int)size;
        }
    }
    length = readlink(ARCHIVE, path, size - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = '\0';
    return 1;
}

/* Python's own functions are looked up once its library is loaded: the linker must not ask for them before. */
#define TAKE(name) __typeof__(&name) name##_ = (__typeof__(&name))dlsym(python, #name)

static int run(void *python, void *zlib, int argc, char **argv, const char *path) {
    TAKE(PyPreConfig_InitPythonConfig);
    TAKE(Py_PreInitialize);
    TAKE(PyConfig_InitPythonConfig);
    TAKE(PyConfig_SetBytesArgv);
    TAKE(PyConfig_SetBytesString);
    TAKE(PyConfig_SetString);
    TAKE(PyWideStringList_Append);
    TAKE(PyImport_AppendInittab);
    TAKE(Py_InitializeFromConfig);
    TAKE(PyStatus_Exception);
    TAKE(Py_RunMain);
    PyPreConfig early;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitPythonConfig_(&early);
    early.isolated = 1;
    early.use_environment = 0;
    early.parse_argv = 0;
    early.utf8_mode = 1;
    status = Py_PreInitialize_(&early);
    if (PyStatus_Exception_(status)) {
        return fail("Python does not start", status.err_msg);
    }
    if (zlib != NULL && PyImport_AppendInittab_("zlib", (PyObject * (*)(void)) dlsym(zlib, "PyInit_zlib")) != 0) {
        return fail("Python does not start", "no memory");
    }
    PyConfig_InitPythonConfig_(&config);
    config.isolated = 1;
    config.use_environment = 0;
    config.user_site_directory = 0;
    config.site_import = 0;
    config.parse_argv = 0;
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    wchar_t **places[] = {&config.home, &config.prefix, &config.exec_prefix, &config.base_prefix, &config.base_exec_prefix};
#define STEP(call)                                                                                                     \
    status = call;                                                                                                     \
    if (PyStatus_Exception_(status)) {                                                                                 \
        return fail("Python does not start", status.err_msg);                                                         \
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        STEP(PyConfig_SetString_(&config, places[i], L"" ARCHIVE));
    }
    STEP(PyWideStringList_Append_(&config.module_search_paths, L"" ARCHIVE));
    STEP(PyConfig_SetBytesString_(&config, &config.program_name, path));
    STEP(PyConfig_SetBytesString_(&config, &config.executable, path));
    STEP(PyConfig_SetBytesString_(&config, &config.base_executable, path));
    STEP(PyConfig_SetBytesArgv_(&config, argc, argv));
    STEP(PyConfig_SetString_(&config, &config.run_command, L"import _runestone_boot; _runestone_boot.run()"));
    STEP(Py_InitializeFromConfig_(&config));
    return Py_RunMain_();
}

int main(int argc, char **argv) {
    char path[PATH_MAX];
    void *python = NULL, *zlib = NULL;
    for (int i = 0; i < BLOBS; i++) {
        void *library = load(&blobs[i], i);
        if (library == NULL) {
            return 1;
        }
        if (i == PYTHON_BLOB) {
            python = library;
        } else if (i == ZLIB_BLOB) {
            zlib = library;
        }
    }
    if (!executable(path, sizeof path)) {
        return fail("cannot find itself", "/proc is not there, or its path is too long");
    }
    return run(python, zlib, argc, argv, path);
}
