//! NCCL: sums and messages between processes of this machine, or threads of one, through sockets.
//!
//! As with the real library a call returns before anything has happened. It happens when its stream is next used
//! (`settle`), which then waits for the other processes; a communicator that is aborted ends that.

#include "driver.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <set>
#include <string>
#include <vector>

using ncclResult_t = int;

enum : ncclResult_t {
    ncclSuccess = 0,
    ncclUnhandledCudaError = 1,
    ncclSystemError = 2,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
    ncclRemoteError = 6,
};

struct ncclUniqueId {
    char internal[128];
};

using ncclComm_t = struct Communicator*;

enum class Kind { Sum, Send, Receive };

struct Operation {
    Kind kind;
    const char* from;
    char* to;
    size_t bytes;
    int peer;
    ncclComm_t comm;
    CUstream stream;
};

using Group = std::vector<Operation>;

struct Communicator {
    int rank;
    int size;
    int device;
    std::vector<int> sockets;  // by rank; -1 for its own
    std::atomic<bool> aborted{false};
    std::atomic<ncclResult_t> error{ncclSuccess};
    // What was asked for and has not happened, all of it on one stream.
    std::mutex mutex;
    std::deque<Group> waiting;
    std::atomic<size_t> num_waiting{0};
    std::atomic<CUstream> stream{nullptr};
};

namespace {

constexpr int FLOAT32 = 7, SUM = 0;
constexpr auto PATIENCE = std::chrono::seconds(60);

std::mutex mutex;
std::set<ncclComm_t> communicators;

std::mutex error_mutex;
std::string last_error;

/// The calls of a thread since its first ncclGroupStart. A thread-local variable would be taken for shared memory.
struct Open {
    int depth = 0;
    Group group;
};

Open& open_group() {
    static const pthread_key_t key = [] {
        pthread_key_t key;
        pthread_key_create(&key, [](void* open) { delete static_cast<Open*>(open); });
        return key;
    }();
    auto* open = static_cast<Open*>(pthread_getspecific(key));
    if (open == nullptr) pthread_setspecific(key, open = new Open);
    return *open;
}

ncclResult_t refuse(ncclResult_t result, const std::string& text) {
    std::lock_guard<std::mutex> guard(error_mutex);
    last_error = text;
    return result;
}

void check_communicator(const char* function, ncclComm_t comm) {
    std::lock_guard<std::mutex> guard(mutex);
    if (communicators.count(comm) == 0) emulator::fail(function, "this communicator does not exist, or no longer");
}

// ---------------------------------------------------------------------------------------------------------------------
// Messages

/// Bytes that are sent or received, after their number.
struct Message {
    char* bytes;
    uint64_t length;
    uint64_t announced;
    size_t done;
};

constexpr size_t HEADER = sizeof(uint64_t);

/// Moves as much as a socket takes or has now. False: the other side is gone.
bool move_on(int socket, std::deque<Message>& messages, bool sends) {
    while (!messages.empty()) {
        Message& message = messages.front();
        bool in_header = message.done < HEADER;
        char* at = in_header ? reinterpret_cast<char*>(&message.announced) + message.done
                             : message.bytes + (message.done - HEADER);
        size_t left = in_header ? HEADER - message.done : message.length - (message.done - HEADER);
        ssize_t moved = left == 0 ? 0 : sends ? send(socket, at, left, MSG_NOSIGNAL) : recv(socket, at, left, 0);
        if (moved < 0) return errno == EAGAIN || errno == EINTR;
        if (moved == 0 && left > 0) return false;
        message.done += size_t(moved);
        if (message.done == HEADER && !sends && message.announced != message.length) {
            emulator::fail("NCCL", "a message of " + std::to_string(message.announced) + " bytes arrived where " +
                                       std::to_string(message.length) + " are expected");
        }
        if (message.done == HEADER + message.length) messages.pop_front();
    }
    return true;
}

/// Sends and receives, by rank, all at the same time. False: somebody is gone, or the communicator was aborted.
bool exchange(Communicator& comm, std::vector<std::deque<Message>>& sends, std::vector<std::deque<Message>>& receives) {
    while (true) {
        std::vector<pollfd> events;
        for (int peer = 0; peer < comm.size; ++peer) {
            if (peer == comm.rank) continue;
            if (!move_on(comm.sockets[peer], sends[peer], true)) return false;
            if (!move_on(comm.sockets[peer], receives[peer], false)) return false;
            short wanted = short((sends[peer].empty() ? 0 : POLLOUT) | (receives[peer].empty() ? 0 : POLLIN));
            if (wanted != 0) events.push_back({comm.sockets[peer], wanted, 0});
        }
        if (events.empty()) return true;
        if (comm.aborted) return false;
        poll(events.data(), events.size(), 20);
    }
}

/// Does what a group of calls asks for.
void run(const Group& group) {
    Communicator& comm = *group.front().comm;
    if (comm.aborted || comm.error != ncclSuccess) return;
    std::vector<std::deque<Message>> sends(comm.size), receives(comm.size);
    std::vector<std::vector<char>> terms;
    for (const Operation& operation : group) {
        auto message = [&](char* bytes) { return Message{bytes, operation.bytes, operation.bytes, 0}; };
        auto* from = const_cast<char*>(operation.from);
        if (operation.kind == Kind::Send) sends[operation.peer].push_back(message(from));
        if (operation.kind == Kind::Receive) receives[operation.peer].push_back(message(operation.to));
        if (operation.kind != Kind::Sum) continue;
        for (int peer = 0; peer < comm.size; ++peer) {
            terms.emplace_back(operation.bytes);
            if (peer == comm.rank) {
                memcpy(terms.back().data(), from, operation.bytes);
            } else {
                sends[peer].push_back(message(from));
                receives[peer].push_back(message(terms.back().data()));
            }
        }
    }
    if (!exchange(comm, sends, receives)) {
        if (!comm.aborted) comm.error = refuse(ncclRemoteError, "a process closed its connection");
        return;
    }
    size_t next = 0;
    for (const Operation& operation : group) {
        if (operation.kind != Kind::Sum) continue;
        auto* sums = reinterpret_cast<float*>(operation.to);
        for (size_t i = 0; i < operation.bytes / sizeof(float); ++i) {
            // In the order of the ranks, which is not that of a tree.
            float sum = 0;
            for (int rank = 0; rank < comm.size; ++rank) {
                float term = reinterpret_cast<const float*>(terms[next + size_t(rank)].data())[i];
                sum = rank == 0 ? term : sum + term;
            }
            sums[i] = sum;
        }
        next += size_t(comm.size);
    }
}

void run_all(Communicator& comm) {
    std::lock_guard<std::mutex> guard(comm.mutex);
    for (; !comm.waiting.empty(); comm.waiting.pop_front()) run(comm.waiting.front());
    comm.num_waiting = 0;
}

void close_group() {
    Open& open = open_group();
    if (open.depth > 0 || open.group.empty()) return;
    Communicator& comm = *open.group.front().comm;
    std::lock_guard<std::mutex> guard(comm.mutex);
    CUstream stream = open.group.front().stream;
    if (!comm.waiting.empty() && comm.stream != stream) emulator::not_emulated("calls on several streams");
    comm.stream = stream;
    comm.waiting.push_back(std::move(open.group));
    comm.num_waiting = comm.waiting.size();
    open.group.clear();
}

ncclResult_t ask(const char* function, Operation operation, size_t count, int type) {
    check_communicator(function, operation.comm);
    if (type != FLOAT32) emulator::not_emulated("a type of NCCL other than ncclFloat32");
    if (emulator::current_device() != operation.comm->device) {
        emulator::fail(function, "the thread uses another device than the communicator");
    }
    emulator::check_stream(function, operation.stream);
    operation.bytes = count * sizeof(float);
    if (operation.kind != Kind::Receive) emulator::check_device(function, "the source", operation.from, operation.bytes);
    if (operation.kind != Kind::Send) emulator::check_device(function, "the destination", operation.to, operation.bytes);
    if (operation.kind != Kind::Sum && (operation.peer < 0 || operation.peer >= operation.comm->size)) {
        return refuse(ncclInvalidArgument, "there is no rank " + std::to_string(operation.peer));
    }
    if (operation.kind != Kind::Sum && operation.peer == operation.comm->rank) {
        emulator::not_emulated("a message to oneself");
    }
    Group& group = open_group().group;
    if (!group.empty() && (group.front().stream != operation.stream || group.front().comm != operation.comm)) {
        emulator::not_emulated("a group on several streams");
    }
    if (operation.comm->error != ncclSuccess) return operation.comm->error;
    group.push_back(operation);
    close_group();
    return ncclSuccess;
}

// ---------------------------------------------------------------------------------------------------------------------
// Connecting

/// What a process says of itself first.
struct Hello {
    int rank;
    int size;
    int device;  // its number in the machine
    char host[100];
};

sockaddr_un address_of(const ncclUniqueId& id, int rank, socklen_t& length) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // The first byte is zero: a name without a file.
    int written = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%.64s-%d", id.internal, rank);
    length = socklen_t(offsetof(sockaddr_un, sun_path) + 1 + size_t(written));
    return address;
}

bool whole(int socket, void* bytes, size_t length, bool sends) {
    auto* at = static_cast<char*>(bytes);
    while (length > 0) {
        ssize_t moved = sends ? send(socket, at, length, MSG_NOSIGNAL) : recv(socket, at, length, 0);
        if (moved <= 0) return false;
        at += moved;
        length -= size_t(moved);
    }
    return true;
}

void close_all(const std::vector<int>& sockets) {
    for (int socket : sockets) {
        if (socket >= 0) close(socket);
    }
}

/// Exchanges hellos over a new connection. False: it is no process of ours.
bool greet(int socket, Hello own, std::vector<Hello>& hellos, std::vector<int>& sockets) {
    Hello other{};
    if (!whole(socket, &own, sizeof(own), true) || !whole(socket, &other, sizeof(other), false)) return false;
    if (other.size != own.size || other.rank < 0 || other.rank >= own.size) return false;
    hellos[size_t(other.rank)] = other;
    sockets[size_t(other.rank)] = socket;
    fcntl(socket, F_SETFL, O_NONBLOCK);
    return true;
}

ncclResult_t connect_all(const ncclUniqueId& id, Hello own, std::vector<int>& sockets) {
    auto until = std::chrono::steady_clock::now() + PATIENCE;
    std::vector<Hello> hellos(size_t(own.size), own);
    socklen_t length;
    sockaddr_un address = address_of(id, own.rank, length);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listening, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listening, own.size) != 0) {
        close(listening);
        return refuse(ncclSystemError, std::string("cannot listen: ") + strerror(errno));
    }
    auto missing = [&](int rank) {
        close(listening);
        return refuse(ncclRemoteError, "rank " + std::to_string(rank) + " did not come");
    };
    for (int rank = 0; rank < own.rank; ++rank) {
        address = address_of(id, rank, length);
        while (true) {
            int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (connect(connection, reinterpret_cast<sockaddr*>(&address), length) == 0) {
                if (!greet(connection, own, hellos, sockets)) return missing(rank);
                break;
            }
            close(connection);
            if (std::chrono::steady_clock::now() > until) return missing(rank);
            usleep(5000);
        }
    }
    for (int rank = own.rank + 1; rank < own.size; ++rank) {
        pollfd event{listening, POLLIN, 0};
        if (poll(&event, 1, int(std::chrono::milliseconds(PATIENCE).count())) <= 0) return missing(rank);
        int connection = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
        if (connection < 0 || !greet(connection, own, hellos, sockets)) return missing(rank);
    }
    close(listening);
    for (const Hello& one : hellos) {
        for (const Hello& other : hellos) {
            if (one.rank < other.rank && one.device == other.device && strcmp(one.host, other.host) == 0) {
                return refuse(ncclInvalidUsage, "Duplicate GPU detected : rank " + std::to_string(other.rank) +
                                                    " and rank " + std::to_string(one.rank) + " both on CUDA device " +
                                                    std::to_string(one.device));
            }
        }
    }
    return ncclSuccess;
}

/// After this nobody uses it. The memory stays: another thread may still be about to leave it.
void end(ncclComm_t comm) {
    {
        std::lock_guard<std::mutex> guard(mutex);
        communicators.erase(comm);
    }
    std::lock_guard<std::mutex> guard(comm->mutex);
    comm->waiting.clear();
    comm->num_waiting = 0;
    close_all(comm->sockets);
}

}  // namespace

void emulator::settle(CUstream stream) {
    std::vector<ncclComm_t> wanted;
    {
        std::lock_guard<std::mutex> guard(mutex);
        for (ncclComm_t comm : communicators) {
            if (comm->num_waiting > 0 && comm->stream == stream) wanted.push_back(comm);
        }
    }
    for (ncclComm_t comm : wanted) run_all(*comm);
}

API ncclResult_t ncclGetVersion(int* version) {
    *version = 22907;
    return ncclSuccess;
}

API const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
        case ncclSuccess: return "no error";
        case ncclUnhandledCudaError: return "unhandled cuda error";
        case ncclSystemError: return "unhandled system error";
        case ncclInvalidArgument: return "invalid argument";
        case ncclInvalidUsage: return "invalid usage";
        case ncclRemoteError: return "remote process exited or there was a network error";
        default: return "unknown result code";
    }
}

API const char* ncclGetLastError(ncclComm_t) {
    std::lock_guard<std::mutex> guard(error_mutex);
    // A copy for each call: the text must not change under the reader.
    return strdup(last_error.c_str());
}

API ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    memset(id, 0, sizeof(*id));
    auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    static std::atomic<int> number{0};
    snprintf(id->internal, sizeof(id->internal), "nccl-emulator-%d-%llx-%d", int(getpid()), (unsigned long long)now,
             ++number);
    return ncclSuccess;
}

API ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
    if (size < 1 || rank < 0 || rank >= size) return refuse(ncclInvalidArgument, "there is no such rank");
    if (emulator::current_device() < 0) return refuse(ncclUnhandledCudaError, "no context is current in this thread");
    Hello own{rank, size, emulator::number_in_machine(emulator::current_device()), {}};
    if (const char* host = getenv("NCCL_HOSTID")) {
        snprintf(own.host, sizeof(own.host), "%s", host);
    } else {
        gethostname(own.host, sizeof(own.host) - 1);
    }
    std::vector<int> sockets(size_t(size), -1);
    if (ncclResult_t result = connect_all(id, own, sockets)) {
        close_all(sockets);
        return result;
    }
    auto* made = new Communicator;
    made->rank = rank;
    made->size = size;
    made->device = emulator::current_device();
    made->sockets = std::move(sockets);
    std::lock_guard<std::mutex> guard(mutex);
    communicators.insert(made);
    *comm = made;
    return ncclSuccess;
}

API ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    check_communicator(__func__, comm);
    run_all(*comm);
    end(comm);
    return ncclSuccess;
}

API ncclResult_t ncclCommAbort(ncclComm_t comm) {
    check_communicator(__func__, comm);
    // A thread that waits for others leaves.
    comm->aborted = true;
    end(comm);
    return ncclSuccess;
}

API ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    check_communicator(__func__, comm);
    *error = comm->error;
    return ncclSuccess;
}

API ncclResult_t ncclAllReduce(
    const void* from, void* to, size_t count, int type, int sum, ncclComm_t comm, CUstream stream) {
    if (sum != SUM) emulator::not_emulated("an operation of ncclAllReduce other than ncclSum");
    auto* source = static_cast<const char*>(from);
    return ask(__func__, {Kind::Sum, source, static_cast<char*>(to), 0, -1, comm, stream}, count, type);
}

API ncclResult_t ncclSend(const void* from, size_t count, int type, int peer, ncclComm_t comm, CUstream stream) {
    return ask(__func__, {Kind::Send, static_cast<const char*>(from), nullptr, 0, peer, comm, stream}, count, type);
}

API ncclResult_t ncclRecv(void* to, size_t count, int type, int peer, ncclComm_t comm, CUstream stream) {
    return ask(__func__, {Kind::Receive, nullptr, static_cast<char*>(to), 0, peer, comm, stream}, count, type);
}

API ncclResult_t ncclGroupStart() {
    ++open_group().depth;
    return ncclSuccess;
}

API ncclResult_t ncclGroupEnd() {
    Open& open = open_group();
    if (open.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    --open.depth;
    close_group();
    return ncclSuccess;
}
